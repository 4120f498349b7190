"""Healthy models that a careless check takes for broken ones, each with its broken twins."""

from tests.zoo.classes import CLASSIFIERS
from tests.zoo.embeddings import EMBEDDINGS
from tests.zoo.likelihoods import LIKELIHOODS
from tests.zoo.own_steps import OWN_STEPS
from tests.zoo.regression import REGRESSIONS
from tests.zoo.sequences import SEQUENCES
from tests.zoo.specimen import FAILS, RUN_FAILS, Specimen, Twin, break_

ALL = (*CLASSIFIERS, *REGRESSIONS, *LIKELIHOODS, *EMBEDDINGS, *SEQUENCES, *OWN_STEPS)

__all__ = ["ALL", "FAILS", "RUN_FAILS", "Specimen", "Twin", "break_"]
