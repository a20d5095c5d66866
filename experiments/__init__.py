"""One command per question that a paper would ask; each composes `elicit` and `probes`."""

# By name, the question that the module of this name (with _ for -) answers; see experiments/experiment.py.
EXPERIMENTS = {
    "transfer": "How far does training on one domain carry to others, and does the distance of domains foretell it?",
    "scaling": "How many labels of a target are labels of an adjacent domain worth?",
    "elicitation": "Which label-free method recovers how much of the gap, and what does it cost?",
    "prompt-change": "Does a trained model answer the question that is asked, or the one that it was trained on?",
    "instruction": "Do instructions beside the verdicts keep what training breaks, or dilute what it is for?",
    "thinking": "Do verdicts get better when the model reasons in its own words first?",
    "summaries": "How good are summaries by untrained and trained models, and does the verdict survive them?",
    "challenges": "Which label-free method survives imbalance, distractors, impossible, few or long texts, other words?",
    "control": "How much harm does an auditor see who reads the most suspicious transcripts of an agent?",
}
