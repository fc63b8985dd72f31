from .dataset import draw_radiographs, write_dataset
from .draw import SyntheticRadiograph, draw_radiograph
from .pose import LANDMARK_NAMES

__all__ = ["LANDMARK_NAMES", "SyntheticRadiograph", "draw_radiograph", "draw_radiographs", "write_dataset"]
