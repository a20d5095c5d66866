"""Probes on plain arrays: label-free contrast probes and supervised baselines, every layer at once."""

from probes.ccs import CCS
from probes.contrast import ContrastProbe
from probes.logistic import LogisticProbe
from probes.saving import load_probe
from probes.supervised import SupervisedProbe

__all__ = ["CCS", "ContrastProbe", "LogisticProbe", "SupervisedProbe", "load_probe"]
