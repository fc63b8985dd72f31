import numpy as np
import pytest

from boneage.tfrecords.label_weights import READER_SD_MONTHS, weigh_label
from boneage.tfrecords.writer import describe_readers


def test_weigh_label_by_hand():
    numbers, sds = np.array([1.0, 3, 3, 3]), np.array([9.0, READER_SD_MONTHS, 0, 12])
    assert weigh_label(numbers, sds).tolist() == pytest.approx([1, 3, 3 * 6 / 4, 3 * 6 / 12])


def test_describe_readers_averages_the_weights():
    assert describe_readers([(3, READER_SD_MONTHS), (None, None), (2, None)]) == {"mean_label_weight": 2}
    assert describe_readers([(None, None)]) == {}
