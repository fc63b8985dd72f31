import numpy as np

from boneage.preprocessing.io.dicom.exposure import read_exposure

IMAGE = np.zeros((8, 8), np.uint8)


def test_read_exposure_reads_every_quantity_in_its_unit(write_dicom):
    exposure = read_exposure(
        write_dicom(
            IMAGE,
            KVP="50",
            Exposure="3",
            ExposureInuAs="2500",
            ImageAndFluoroscopyAreaDoseProduct="0.12",
            EntranceDose=7,
            EntranceDoseInmGy="0.05",
            ExposureIndex="500",
            TargetExposureIndex="250",
            DeviationIndex="3.0",
            Manufacturer="ACME ",
            ManufacturerModelName="Ray 2",
            StudyDate="20240131",
        )
    )
    assert (exposure.device, exposure.year) == ("ACME Ray 2", 2024)
    assert (exposure.tube_voltage_kv, exposure.exposure_mas) == (50, 2.5)
    assert (exposure.dose_area_product_dgy_cm2, exposure.entrance_dose_mgy) == (0.12, 0.05)
    assert (exposure.exposure_index, exposure.target_exposure_index, exposure.deviation_index) == (500, 250, 3)


def test_read_exposure_takes_the_coarser_elements_where_the_finer_are_missing(write_dicom):
    exposure = read_exposure(write_dicom(IMAGE, Exposure="3", EntranceDose=7))
    assert (exposure.exposure_mas, exposure.entrance_dose_mgy) == (3, 700)


def test_read_exposure_guesses_nothing(write_dicom):
    exposure = read_exposure(
        write_dicom(IMAGE, KVP="0", ExposureIndex="", TargetExposureIndex=["1", "2"], DeviationIndex="0", StudyDate="1")
    )
    assert exposure.deviation_index == 0
    assert {value for name, value in vars(exposure).items() if name not in ("device", "deviation_index")} == {None}
    assert exposure.device == ""
