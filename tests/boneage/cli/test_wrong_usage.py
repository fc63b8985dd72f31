"""Wrong usage of every command: one line that names the fault and the fix, no traceback, nothing written."""

import hashlib
import shlex
import shutil
import sys

import pytest
from PIL import Image

from boneage.cli.main import main
from boneage.preprocessing.synthetic import draw_radiograph

LABELS = "id,bone_age_months,sex\n1,101,F\n2,102,F\n3,103,M\n"
SPECIFICATION = (
    'name = "theirs"\nlicence = "MIT"\nsource = "doi:10.1000/example"\nsha256 = "{digest}"\n'
    '[image]\ninput = "x"\nsize_px = 32\n[output]\nkind = "months"\n'
)
TEXTS = {
    "labels.csv": LABELS,
    "years.csv": LABELS.replace("10", ""),
    "other_ids.csv": LABELS.replace("\n", "\nx"),
    "no_label.csv": "id,weight\n1,3\n",
    "readings.csv": "id,reader,months\n" + "".join(f"{id},{reader},{90 + id}\n" for id in range(5) for reader in "ab"),
    "one_reader.csv": "id,reader,months\n1,a,100\n2,a,104\n",
    "visits.csv": "id,child,bone_age_months,chronological_age_months\n1,a,100,100\n2,a,110,112\n",
    "children.csv": "child,sex,height_cm,bone_age_months\na,F,140,130\n",
    "no_unit.csv": "child,sex,height,bone_age_months\na,F,140,130\n",
    "outcomes.csv": "sex,final_height_cm,predicted_bp_cm\nF,160,162\n",
    "healthy.csv": "sex,chronological_age_months,bone_age_months\nF,100,101\nM,90,92\n",
    "means.csv": "sex,mean\nF,1\n",
    "good_split.csv": "id,split\n1,train\n2,validation\n",
    "split.csv": "id,split\n1,trane\n",
    "folds.csv": "id,fold\n1,train\n",
    "decisions.csv": "id,decision,value\n1,drop,\n",
    "empty.csv": "",
    "broken.csv": "\0\0\0",
    "broken.xlsx": "no archive",
    "broken.onnx": "no network",
    "broken.toml": "network = \n",
    "unknown_key.toml": "[train]\nlearning_rat = 0.1\n",
    "unknown_network.toml": '[train]\nnetwork = "efficientnet_lite9"\n',
    "spec.toml": SPECIFICATION.format(digest=hashlib.sha256(b"no network").hexdigest()),
    "other_spec.toml": SPECIFICATION.format(digest="0" * 64),
    "note.txt": "no radiograph\n",
}
IN_RECORDS = "--table labels.csv --split random --out x"
# Command line, exit status, and a part of the line that it prints.
ROWS = (
    ("prepair", 2, "No such command 'prepair'. Did you mean 'prepare'? See `boneage --help`."),
    ("prepare", 2, "Missing argument 'source'. See `boneage prepare --help`."),
    ("prepare films", 2, "Missing option '--out'"),
    ("prepare films --size 3 --out x", 2, "No such option: --size"),
    ("prepare films --workers 0 --out x", 2, "Invalid value for '--workers'"),
    ("prepare nowhere --out x", 1, "nowhere: no such file or folder; check the path."),
    ("prepare empty --out x", 1, "empty: contains no files; give the folder that contains the radiographs."),
    ("prepare note.txt --out x", 1, "note.txt: not a radiograph; unpack it or convert it"),
    ("prepare films --out x", 1, "films: no radiograph has a bone age; give a table with the columns id and boneage"),
    ("prepare films --table nowhere.csv --out x", 1, "nowhere.csv: No such file or directory; check the path"),
    ("prepare films --table films --out x", 1, "films: Is a directory; check the path of the table."),
    ("prepare films --table no_label.csv --out x", 1, "Received: id, weight. Expected: bone_age as one of boneage, "),
    ("prepare films --table empty.csv --out x", 1, "empty.csv: is empty; save the table as CSV in UTF-8 or as .xlsx."),
    ("prepare films --table broken.csv --out x", 1, "broken.csv: neither CSV nor an Excel file; save the table"),
    ("prepare films --table broken.xlsx --out x", 1, "broken.xlsx: neither CSV nor an Excel file; save the table"),
    ("prepare films --table years.csv --out x", 1, "which may be years or months; say which with --age-unit"),
    ("prepare films --table labels.csv --age-unit yeers --out x", 1, "Did you mean 'years'?"),
    ("prepare films --table labels.csv --out x", 1, "films: defines no splits; use --split random, a fold such as"),
    ("prepare films --table labels.csv --split rndom --out x", 1, "correct --split. Did you mean 'random'?"),
    ("prepare films --table labels.csv --split 6/5 --out x", 1, "must name a fold such as '2/5'"),
    ("prepare films --table labels.csv --split split.csv --out x", 1, "split is 'trane'; write one of train, "),
    ("prepare films --table labels.csv --split folds.csv --out x", 1, "folds.csv: a column is missing. Received: id, "),
    (f"prepare films --segmenter unett {IN_RECORDS}", 1, "Did you mean 'unet'?"),
    (f"prepare films --set image_size=3 {IN_RECORDS}", 1, "unknown key 'image_size'. Did you mean 'image_size_px'?"),
    (f"prepare films --set image_size_px=1 {IN_RECORDS}", 1, "`image_size_px` must lie in [16, 4096]. Received: 1."),
    (f"prepare films --like nowhere {IN_RECORDS}", 1, "nowhere: contains no metadata.json; give the `bundle` folder"),
    (f"prepare films --like default --segmenter none {IN_RECORDS}", 1, "leave one of them out"),
    (
        f"prepare films --decisions nowhere.csv {IN_RECORDS}",
        1,
        "nowhere.csv: No such file or directory; check the path",
    ),
    (f"prepare films --decisions labels.csv {IN_RECORDS}", 1, "labels.csv: needs the columns id,decision,value"),
    (f"prepare films --decisions decisions.csv {IN_RECORDS}", 1, "decisions.csv line 2: `decision` must be one of"),
    (f"prepare films --runner FlinkRuner {IN_RECORDS}", 1, "Did you mean 'FlinkRunner'?"),
    ("prepare films --table labels.csv --split random --out taken", 1, "taken: already exists and was made from other"),
    ("prepare films --table labels.csv --split random --out films/x", 1, "choose a folder outside films."),
    ("records nowhere", 1, "make records with `boneage prepare SOURCE --out nowhere`"),
    ("records note.txt", 1, "note.txt/dataset_info.json: Not a directory; check the path of the records."),
    ("records damaged_records", 1, "damaged_records/dataset_info.json: not readable as JSON"),
    ("segment nowhere --out x", 1, "nowhere: no such file or folder; check the path."),
    ("segment films --out note.txt", 1, "note.txt: Not a directory; choose another folder with --out."),
    ("segment films --segmenter none --out x", 1, "--segmenter must not be 'none'"),
    ("segment films --segmenter sam --sam-checkpoint nowhere.pth --out x", 1, "give its path with --sam-checkpoint"),
    ("review records", 2, "Missing option '--source'"),
    ("review nowhere --source films", 1, "make records with `boneage prepare SOURCE --out nowhere`"),
    ("review records --source films", 1, "records/review: no contact sheets; `boneage prepare` writes them"),
    ("review records --source films --decisions x.xlsx", 1, "--decisions must end with .csv, a table that every "),
    ("review records --source films --host 0.0.0.0", 1, "set --token or $BONEAGE_TOKEN, or omit --host"),
    ("train rsna_lite --data records", 1, "Did you mean 'rsna_lite0'? `boneage recipes` lists them."),
    ("train nowhere.toml --data records", 1, "nowhere.toml: No such file or directory; give an experiment file or"),
    ("train broken.toml --data records", 1, "broken.toml: not valid TOML"),
    ("train unknown_key.toml --data records", 1, "unknown key 'learning_rat'. Did you mean 'learning_rate'?"),
    ("train unknown_network.toml --data records", 1, "Did you mean 'efficientnet_lite0'?"),
    ("train rsna_lite0 --data films --run x", 1, "films: dataset_info.json not found; make records with"),
    ("train rsna_lite0 --data records --run note.txt", 1, "note.txt: Not a directory; "),
    ("train rsna_lite0 --data records --run x --distribution mirored", 1, "Did you mean 'mirrored'?"),
    (
        "train rsna_lite0 --data records --run x --tracking-uri htp://u:p@x",
        1,
        "--tracking-uri must begin with one of http:, https:, sqlite:, postgresql:, mysql:, mssql:, file:, "
        "databricks:, databricks-uc:, uc: or be a folder. Received: htp:. Did you mean 'http'?",
    ),
    ("train rsna_lite0 --data records --run x --set train.epochs=0", 1, "`epochs` must be positive. Received: 0."),
    ("train rsna_lite0 --data records --run x --set epochs", 1, "--set epochs: expected key=value."),
    ("tune tune_head --data records --out x", 1, "Did you mean 'tune_heads'?"),
    ("tune tune_heads --data records --out note.txt", 1, "note.txt: Not a directory; "),
    ("tune tune_heads --data records --out x --tuner hyperbant", 1, "Did you mean 'hyperband'?"),
    ("tune tune_heads --data records --out x --tracking-uri htp://x", 1, "--tracking-uri must begin with one of"),
    ("tune tune_heads --data records --out x --num-trials 1", 2, "Invalid value for '--num-trials'"),
    ("settings trian", 1, "Did you mean 'train'?"),
    ("recipes more", 2, "unexpected extra argument"),
    ("best --metric val_mea", 1, "Did you mean 'val_mae'?"),
    ("best 1234", 1, "a run id requires --promote. Received: '1234'."),
    ("best", 1, "mlruns/mlflow.db: no such file; train a network, or name another store by --tracking-uri."),
    ("best --tracking-uri htp://x", 1, "--tracking-uri must begin with one of"),
    ("ui --tracking-uri htp://x", 1, "--tracking-uri must begin with one of"),
    ("sync note.txt --tracking-uri htp://x", 1, "--tracking-uri must begin with one of"),
    ("sync note.txt", 1, "note.txt: contains no tracking.jsonl; give the folder of a tracked run."),
    ("ui --port 0", 2, "Invalid value for '--port'"),
    ("evaluate bundle", 1, "give records, or radiographs with a table of labels"),
    ("evaluate nowhere --files films --table labels.csv", 1, "nowhere: contains no metadata.json; give the `bundle`"),
    ("evaluate bundle --data records --split tset", 1, "records: no split 'tset'. It has: test, train, validation."),
    ("evaluate bundle --data records --tta tenn", 1, "Did you mean 'ten'?"),
    ("evaluate bundle --data records --files films", 1, "--data excludes --files"),
    (
        "evaluate bundle --data records --out note.txt",
        1,
        "note.txt: cannot be created (Not a directory); choose another",
    ),
    ("evaluate bundle --files films", 1, "give a table with the columns id and bone_age_months"),
    ("evaluate bundle --files films --table other_ids.csv", 1, "Left out: missing_file "),
    ("evaluate bundle --files films --table labels.csv --by devise", 1, "Received: id, bone_age_months, sex."),
    ("evaluate bundle --files films --table labels.csv --beside nowhere", 1, "nowhere: contains no metadata.json"),
    ("evaluate no_label.csv --table labels.csv", 1, "needs the columns id and predicted_months or bone_age_months"),
    ("stress bundle --files films --table labels.csv --out x --tta tenn", 1, "Did you mean 'ten'?"),
    ("stress nowhere --files films --table labels.csv --out x", 1, "nowhere: contains no metadata.json; give the"),
    ("stress bundle --files films --table labels.csv --out films/x", 1, "choose a folder outside films."),
    ("predict", 2, "Missing argument 'FILE_OR_FOLDER...'"),
    ("predict films/1.png films/nowhere.png", 1, "films/nowhere.png: no such file or folder; check the path."),
    ("predict note.txt", 1, "no file has a prediction; the reasons are listed above."),
    ("predict films --sex femal", 1, "'femal' is not understood; write F or M, female or male."),
    ("predict films --sex F --table labels.csv", 1, "--sex and --table exclude each other"),
    ("predict films --tta five", 1, "--tta must be one of none, mirrored, ten. Received: 'five'."),
    ("predict films --bundle damaged_bundle", 1, "damaged_bundle/model.onnx: missing, or its checksum does not match"),
    ("predict films --bundle half_bundle", 1, "half_bundle/metadata.json: not valid JSON"),
    ("predict films --bundle models:/nothing", 1, "write models:/NAME@ALIAS or models:/NAME/VERSION"),
    ("predict films --sex-bundle bundle", 1, "bundle: does not classify sex; train a bundle with task = 'sex'."),
    ("predict films --reference nowhere.csv", 1, "nowhere.csv: No such file or directory; check the path"),
    ("predict films --reference means.csv", 1, "means.csv: has no column chronological_age_months; required columns"),
    ("predict films --out taken", 1, "taken: Is a directory; choose another file with --out."),
    ("predict films --out note.txt/x.csv", 1, "note.txt/x.csv: Not a directory; choose another file with --out."),
    (
        "predict films --out x.tsv",
        1,
        "--out must end with .csv, a table that every spreadsheet opens. Received: x.tsv.",
    ),
    ("predict films --dicom note.txt", 1, "note.txt: Not a directory; choose another folder with --dicom."),
    ("predict films --occlusion-maps note.txt", 1, "choose another folder with --occlusion-maps."),
    ("calibrate bundle --data films --out x", 1, "films: dataset_info.json not found; make records with"),
    ("calibrate bundle --data records --out note.txt", 1, "note.txt: Not a directory"),
    ("ensemble bundle --out x", 1, "an ensemble needs at least two bundles. Received: 1."),
    ("ensemble bundle bundle --out x", 1, "contains no model.keras, which training needs; use the `bundle` folder"),
    ("ensemble bundle bundle --tta tenn --out x", 1, "Did you mean 'ten'?"),
    ("export bundle --format onx --out x", 1, "Did you mean 'onnx'?"),
    ("export bundle --out taken", 1, "taken: already exists; remove it or choose another path with --out."),
    ("export bundle --out note.txt/x.onnx", 1, "note.txt/x.onnx: Not a directory; choose another path with --out."),
    ("import broken.onnx --spec nowhere.toml --out x", 1, "nowhere.toml: No such file or directory; give a spec"),
    ("import nowhere.onnx --spec spec.toml --out x", 1, "nowhere.onnx: No such file or directory"),
    ("import broken.onnx --spec spec.toml --out x", 1, "broken.onnx: not an ONNX file"),
    ("import broken.onnx --spec other_spec.toml --out x", 1, "its SHA-256 is "),
    ("import broken.onnx --spec spec.toml --out note.txt", 1, "note.txt: Not a directory"),
    ("publish nowhere hf://owner/name", 1, "nowhere: contains no metadata.json; give the `bundle` folder"),
    ("publish bundle owner/name", 1, "give hf://owner/name or hf://owner/name@revision."),
    ("agree no_label.csv --out x", 1, "needs the columns id, reader, and months or years. Received: id, weight."),
    ("agree one_reader.csv --out x", 1, "no two readers read 3 radiographs in common"),
    ("agree readings.csv --by devise --out x", 1, "no column 'devise' to group by"),
    ("agree readings.csv --consensus meen --out x", 1, "--consensus must be one of mean, median, weighted."),
    ("agree readings.csv --out note.txt", 1, "note.txt: Not a directory"),
    ("follow no_label.csv --out x", 1, "no_label.csv: needs the columns bone_age_months"),
    ("follow labels.csv --out x", 1, "add the columns child and chronological_age_months"),
    ("follow visits.csv --error -1 --out x", 1, "--error must be positive. Received: -1.0."),
    ("follow visits.csv --out note.txt", 1, "note.txt: Not a directory"),
    ("height", 2, "give a table of children, or --sex, --height and what else is known of one child"),
    ("height no_unit.csv", 1, "no_unit.csv: column 'height' states no unit; name it height_cm or height_in."),
    ("height --sex female --height 1400", 1, "--height must lie in 20 to 280. Received: 1400.0."),
    ("height children.csv --cdc no_label.csv", 1, "no_label.csv: needs the columns L, M, S, and"),
    ("height children.csv --out note.txt", 1, "note.txt: Not a directory"),
    ("outcomes children.csv --out x", 1, "children.csv: needs the columns final_height_cm"),
    ("outcomes outcomes.csv --out note.txt", 1, "note.txt: Not a directory"),
    ("dose films", 1, "films: contains no readable DICOM file; give DICOM files, or a folder of them."),
    ("dose films --out note.txt", 1, "note.txt: Not a directory"),
    ("reference fitt healthy.csv", 2, "No such command 'fitt'. Did you mean 'fit'? See `boneage reference --help`."),
    ("reference fit healthy.csv --out x.csv", 1, "healthy.csv: too few children for a reference"),
    ("reference fit healthy.csv --out taken", 1, "--out must end with .csv, a table that every spreadsheet opens. "),
    ("reference compare brush brush_foundation --out x", 1, "brush: No such file or directory; check the path"),
    ("reference compare means.csv brush_foundation --out x", 1, "means.csv: has no column chronological_age_months"),
    ("reference compare brush_foundation brush_foundation --out note.txt", 1, "note.txt: Not a directory"),
    ("reference atlas readings.csv films --out x", 1, "readings.csv: needs a column sex"),
    ("train-unet films --masks nowhere --out x", 1, "nowhere"),
    ("train-unet films --masks films --out x --set epoch=3", 1, "unknown key 'epoch'"),
    ("train-landmarks nowhere.csv --radiographs films --split good_split.csv --out x", 1, "nowhere.csv"),
    ("demo --out taken", 1, "taken: already exists; remove it or choose another folder with --out."),
    ("serve --bundle nowhere", 1, "nowhere: contains no metadata.json; give the `bundle` folder"),
    ("serve --watch films", 1, "--watch requires --out"),
    ("serve --watch note.txt --out x", 1, "note.txt: Not a directory; choose another folder with --watch."),
    ("serve --save-readings note.txt", 1, "note.txt: Not a directory; choose another folder with --save-readings."),
    ("serve --host nowhere.invalid --token 0123456789abcdef0123456789abcdef", 1, "choose another --host or --port."),
    ("serve --port -1", 2, "Invalid value for '--port'"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory, prepared, write_bundle):
    """A folder of radiographs, tables, records and bundles, and of what is broken in each way."""
    place = tmp_path_factory.mktemp("usage")
    for name, text in TEXTS.items():
        (place / name).write_text(text)
    for folder in ("films", "empty", "taken"):
        (place / folder).mkdir()
    for number in range(1, 4):
        pixels = draw_radiograph(100.0, sex="female", seed=number, size_px=(80, 64)).pixels
        Image.fromarray(pixels).save(place / "films" / f"{number}.png")
    (place / "taken" / "thesis.doc").write_text("Chapter 1\n")
    for name in ("records", "damaged_records"):
        shutil.copytree(prepared.folder, place / name)
    (place / "damaged_records" / "dataset_info.json").write_text("{")
    for name in ("bundle", "damaged_bundle", "half_bundle"):
        write_bundle(place / name)
    (place / "damaged_bundle" / "model.onnx").write_text("no network")
    (place / "half_bundle" / "metadata.json").write_text("{")
    return place


def list_files(folder):
    """The files and folders below a folder, files with the time of their last change."""
    return {path: None if path.is_dir() else path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def run(place, monkeypatch, capfd):
    """A function that runs a command line in that folder, and gives its status and its message."""

    def run(line):
        monkeypatch.chdir(place)
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setattr(sys, "argv", ["boneage", *shlex.split(line)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, capfd.readouterr().err

    return run


@pytest.mark.parametrize(("line", "status", "part"), ROWS, ids=[line for line, _, _ in ROWS])
def test_wrong_usage(run, place, line, status, part):
    if "--runner" in line:
        pytest.importorskip("apache_beam", reason="needs the extra beam")
    before = list_files(place)
    ended, message = run(line)
    assert part in message
    assert ended == status
    assert message.startswith("boneage: ") and message.endswith("\n") and message[:-1].isprintable()
    for detail in ("Traceback", "PosixPath", "Errno", ".part", "part-", str(place)):
        assert detail not in message
    assert list_files(place) == before


@pytest.mark.parametrize(
    ("line", "module", "extra"),
    [
        ("serve --bundle bundle", "uvicorn", "serve"),
        (f"prepare films --runner DirectRunner {IN_RECORDS}", "apache_beam", "beam"),
        ("stress bundle --files films --table labels.csv --out x", "scipy.stats", "studies"),
    ],
)
def test_missing_extra(run, place, monkeypatch, line, module, extra):
    monkeypatch.setitem(sys.modules, module, None)
    before = list_files(place)
    status, message = run(line)
    assert (status, list_files(place)) == (1, before)
    assert message == f"boneage: requires {module}; install it with: pip install 'boneage[{extra}]'\n"


def test_segment_without_an_answer_is_a_failure(run, place):
    status, message = run("segment note.txt --out masks")
    shutil.rmtree(place / "masks")
    assert (status, message) == (1, "boneage: no file has an accepted hand; the reasons are listed above.\n")


def test_every_command_is_used_wrongly(run):
    import typer.main

    from boneage.cli.main import app

    used = {line.split()[0] for line, _, _ in ROWS}
    # Needs torch.
    assert set(typer.main.get_command(app).commands) - used == {"train-sam"}
