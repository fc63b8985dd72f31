"""The steps that draw, prepare, verify and segment radiographs."""

from golden.describe import Document, describe_records, hash_files, read_table
from golden.dicom_files import write_dicom_files
from golden.program import Program

DRAW = """
import pathlib, sys
from boneage.preprocessing.synthetic import write_dataset
folder, num_images, seed, height, width = sys.argv[1:]
write_dataset(pathlib.Path(folder), num_images=int(num_images), seed=int(seed), size_px=(int(height), int(width)))
"""
NUM_DRAWN = 48
IMAGES, TABLE = "boneage-training-dataset", "boneage-training-dataset.csv"
REVIEW = ("1,rotate,12", "2,flip,", "3,reject,", "4,keep,", "4,rotate,-5")


def draw_radiographs(program: Program) -> Document:
    """Draw radiographs, and add files and rows that cannot become records."""
    program.run_python(DRAW, "drawn", str(NUM_DRAWN), "1", "200", "160")
    program.run_python(DRAW, "large", "3", "2", "640", "512")
    folder = program.folder / "drawn" / IMAGES
    (folder / "empty.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no radiograph\n", encoding="utf-8")
    (folder / "cut.png").write_bytes((folder / "5.png").read_bytes()[:2000])
    (folder / "twin.png").write_bytes((folder / "6.png").read_bytes())
    with (program.folder / "drawn" / TABLE).open("a", encoding="utf-8") as file:
        file.write("empty,60,True\ncut,60,True\ntwin,60,True\nabsent,60,False\n7,70,True\n8,,\n")
    return {"drawn": hash_files(folder, "*.png"), "large": hash_files(program.folder / "large" / IMAGES, "*.png")}


def prepare_hands(program: Program) -> Document:
    """Prepare hands by the default segmenter, divided at random, with a review."""
    (program.folder / "review.csv").write_text("\n".join(("id,decision,value", *REVIEW, "")), encoding="utf-8")
    printed = program.run_json(
        "prepare", "drawn", "--out", "hands", "--split", "random", "--seed", "5",
        "--decisions", "review.csv",
        "--set", "image_size_px=128", "--workers", "2",
    )  # fmt: skip
    return {"printed": printed, **describe_records(program.folder / "hands")}


def prepare_frames(program: Program) -> Document:
    """Prepare whole frames, divided in folds."""
    arguments = ("--split", "2/4", "--segmenter", "none", "--set", "image_size_px=64", "--workers", "1")
    program.run("prepare", "drawn", "--out", "frames", *arguments)
    return describe_records(program.folder / "frames")


def prepare_by_unet(program: Program) -> Document:
    """Prepare hands by the U-Net with other settings of the gate, divided by a table."""
    names = [f"{number},{('train', 'validation', 'test')[number % 3]}" for number in range(1, 4)]
    (program.folder / "split.csv").write_text("\n".join(("id,split", *names, "")), encoding="utf-8")
    settings = ("--set", "gate.max_cut_score=0.01", "--set", "forearm_share=0.3", "--set", "image_size_px=256")
    program.run("prepare", "large", "--out", "unet", "--split", "split.csv", "--segmenter", "unet", *settings)
    return describe_records(program.folder / "unet")


def prepare_dicom(program: Program) -> Document:
    """Prepare drawn DICOM files by their headers and a table, and pydicom's example files as whole frames."""
    write_dicom_files(program.folder, drawn=program.folder / "large" / IMAGES)
    program.run("prepare", "dicom", "--out", "dicom-hands", "--table", "readings.csv", "--split", "random")
    arguments = ("--table", "encoded.csv", "--split", "random", "--segmenter", "none", "--workers", "1")
    program.run("prepare", "encoded", "--out", "dicom-frames", *arguments)
    return {name: describe_records(program.folder / name) for name in ("dicom-hands", "dicom-frames")}


def verify_records(program: Program) -> Document:
    """Verify all records."""
    folders = ("hands", "frames", "unet", "dicom-hands", "dicom-frames")
    return {folder: program.run_json("records", folder, "--verify") for folder in folders}


def segment_hands(program: Program) -> Document:
    """Segment by each packaged segmenter."""
    described = {}
    for segmenter in ("hand_sam", "unet"):
        out = program.folder / f"masks-{segmenter}"
        files = [f"drawn/{IMAGES}/{number}.png" for number in range(1, 9)]
        program.run("segment", *files, "--out", out, "--segmenter", segmenter, "--workers", "1")
        described[segmenter] = {
            "masks": hash_files(out, "*.png"),
            "table": read_table(out / "segments.csv", key="file"),
        }
    return described
