from .bundles.import_model import import_model
from .bundles.join import ensemble
from .cohorts.evaluate import evaluate
from .cohorts.stress import stress
from .configuration.networks import register_backbone
from .evaluation.calibrate import calibrate
from .inference.loading import load
from .inference.predict import predict
from .preprocessing.jobs.prepare import prepare
from .preprocessing.jobs.segment import segment
from .studies.agree import agree
from .studies.atlas import reference_atlas
from .studies.dose import dose
from .studies.follow import follow
from .studies.height import height
from .studies.outcomes import outcomes
from .studies.reference import reference_fit
from .studies.reference_compare import reference_compare
from .tracking.publish import publish
from .tracking.registry import best
from .tracking.sync import sync
from .training.train import train
from .tuning.tune import tune

__all__ = [
    "agree",
    "best",
    "calibrate",
    "dose",
    "ensemble",
    "evaluate",
    "follow",
    "height",
    "import_model",
    "load",
    "outcomes",
    "predict",
    "prepare",
    "publish",
    "reference_atlas",
    "reference_compare",
    "reference_fit",
    "register_backbone",
    "segment",
    "stress",
    "sync",
    "train",
    "tune",
]
__version__: str
