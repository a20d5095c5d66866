"""Probes on plain arrays: label-free contrast probes and supervised baselines, every layer at once.

Axes: n texts, v prompt variants, l layers, d width. States may be numpy or torch, of any float type; scores are numpy
float64.

Label-free, `fit(x_pos, x_neg)`: `CCS`, `CRC`, `BimodalCRC`, `VINC`, `KMeansProbe`, `PCAProbe`, `EnsembleProbe`,
`RandomProbe`. Their sign is a separate step: `orient(reference)`, `orient_by_anchors(...)` or `orient_by_prior(share)`.
Supervised, `fit(x, y)`: `LogisticProbe`, `MeanDifference`, `LDAProbe`, `RidgeProbe`.
Normalisations: `ClassNorm`, `SharedNorm`, `ClusterNorm`, `ErasureNorm`; concept erasure: `LEACE`.
"""

from probes.ccs import CCS
from probes.cluster_norm import ClusterNorm
from probes.contrast import ContrastProbe
from probes.crc import CRC, BimodalCRC
from probes.ensemble import EnsembleProbe
from probes.erasure import LEACE, ErasureNorm
from probes.kmeans import KMeansProbe
from probes.lda import LDAProbe
from probes.logistic import LogisticProbe
from probes.mean_difference import MeanDifference
from probes.normalisation import ClassNorm, Normalisation, SharedNorm
from probes.pca import PCAProbe
from probes.random_direction import RandomProbe
from probes.ridge import RidgeProbe
from probes.saving import load_probe
from probes.supervised import SupervisedProbe
from probes.vinc import VINC

__all__ = [
    "CCS",
    "CRC",
    "LEACE",
    "VINC",
    "BimodalCRC",
    "ClassNorm",
    "ClusterNorm",
    "ContrastProbe",
    "EnsembleProbe",
    "ErasureNorm",
    "KMeansProbe",
    "LDAProbe",
    "LogisticProbe",
    "MeanDifference",
    "Normalisation",
    "PCAProbe",
    "RandomProbe",
    "RidgeProbe",
    "SharedNorm",
    "SupervisedProbe",
    "load_probe",
]
