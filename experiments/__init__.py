"""One command per question that a paper would ask; each composes `elicit` and `probes`."""

# By name, the question that the module of this name (with _ for -) answers; see experiments/experiment.py.
EXPERIMENTS = {
    "transfer": "How far does training on one domain carry to others, and does the distance of domains foretell it?",
    "elicitation": "Which label-free method recovers how much of the gap, and what does it cost?",
}
