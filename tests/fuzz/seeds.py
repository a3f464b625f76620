"""Small valid files of every kind, which are then damaged.

Each kind has a folder of its name, with its files and with the neighbours that their readers need.
The same versions of the libraries give the same files, byte for byte.
"""

import gzip
import json
import shutil

import numpy as np
import torch
from PIL import Image, ImageDraw
from safetensors.torch import save_file

from postnms.candidate_files.writer import CandidateWriter
from postnms.data.dataset import Category
from postnms.data.scenes.generator import ScenesConfig, write_scenes
from postnms.detectors import TorchvisionConfig
from postnms.evaluation.metrics import FIGURES
from postnms.files.atomic import write_json
from postnms.files.tensor_files import load_tensors, save_tensors
from postnms.recipes import get_recipe
from postnms.recipes.explained import explain
from postnms.runs.checkpoints import model_state, training_state
from postnms.runs.folder import RunFolder
from postnms.suppression import get_suppressor
from tests.fuzz.damage_tensors import METADATA, join, split
from tests.fuzz.models import LABELS, tiny_model, tiny_optimizer
from tests.support.builders import random_candidates
from tests.support.data_folders import write_image_folder, write_voc, write_yolo
from tests.support.experiments import HEURISTICS, write_experiment
from tests.support.rescoring import found, tiny_rescorer, write_dump
from tests.support.runs import run, tiny
from tests.support.studies import small_study

DETECTORS = {
    "faster_rcnn.json": "demo",
    "retinanet.json": "retinanet_r50_fpn_1x",
    "cascade_rcnn.json": "cascade_rcnn_r101_fpn_1x",
}
PICTURE = (40, 30)
"""Width and height in pixels."""
MODES = {
    "AVIF": ("RGB", "RGBA"),
    "BMP": ("RGB", "L", "P", "1"),
    "GIF": ("P", "L"),
    "JPEG": ("RGB", "L", "CMYK"),
    "JPEG2000": ("RGB", "L", "RGBA", "I;16"),
    "PNG": ("RGB", "L", "P", "RGBA", "LA", "I;16", "1"),
    "PPM": ("RGB", "L", "1"),
    "TIFF": ("RGB", "L", "P", "RGBA", "CMYK", "I;16", "I", "F", "1"),
    "WEBP": ("RGB", "RGBA"),
}
"""Pillow's modes of the seeds of each format."""
ENDINGS = {"JPEG2000": "jp2", "JPEG": "jpg"}


def write_seeds(folder):
    """Write the files of every kind. Training the tiny run takes most of the time."""
    write_annotations(folder / "annotations")
    write_data_folders(folder)
    write_results(folder)
    write_candidates(folder / "candidates")
    write_rescorers(folder / "rescorer")
    (folder / "study").mkdir()
    small_study(folder / "study")
    for name in MODES:
        write_images(folder / f"image_{name.lower()}", name)
    remove_times(folder / "image_avif" / "frames.avif")
    recipe = write_run(folder / "run")
    write_recipes(folder / "recipe", recipe)
    write_parts(folder, recipe)
    write_state_dicts(folder / "state_dict")
    write_compared(folder / "compared")
    write_scenes(ScenesConfig(train=1, val=1, size=32, objects=(1, 2)), 0, folder / "scenes")
    write_json(make(folder / "call") / "call.json", {"arguments": {}})
    for file in folder.rglob("*.safetensors"):
        sort_header(file)


def sort_header(file):
    """Sort the metadata of a safetensors file, whose order the library leaves to chance."""
    header, body = split(file.read_bytes())
    if METADATA in header:
        header[METADATA] = dict(sorted(header[METADATA].items()))
        file.write_bytes(join(header, body))


def remove_times(file):
    """Set the times in the headers of an animated AVIF to 0."""
    data = bytearray(file.read_bytes())
    for name in (b"mvhd", b"tkhd", b"mdhd"):
        at = data.find(name)
        while at >= 0:
            # Version 1 has 64-bit times, version 0 has 32-bit ones.
            size = 16 if data[at + 4] else 8
            data[at + 8 : at + 8 + size] = bytes(size)
            at = data.find(name, at + 1)
    file.write_bytes(data)


def make(folder):
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def picture(mode="RGB"):
    """Return a picture in one of Pillow's modes, with a gradient and an edge."""
    width, height = PICTURE
    image = Image.new("RGB", PICTURE)
    for x in range(width):
        ImageDraw.Draw(image).line([(x, 0), (x, height)], (6 * x, 255 - 6 * x, 5 * x))
    ImageDraw.Draw(image).ellipse([5, 5, 20, 25], (250, 240, 10))
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    if mode in ("I;16", "I"):
        return Image.fromarray(deep if mode == "I;16" else deep.astype(np.int32))
    if mode == "F":
        return Image.fromarray((deep / 65535).astype(np.float32))
    return image.convert(mode)


def write_images(folder, name):
    ending = ENDINGS.get(name, name.lower())
    for mode in MODES[name]:
        file = make(folder) / f"{mode.replace(';', '')}.{ending}"
        options = {"compression": "tiff_lzw"} if (name, mode) == ("TIFF", "RGB") else {}
        picture(mode).save(file, name, **options)
    turned = Image.Exif()
    turned[0x0112] = 6
    if name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"):
        picture().save(folder / f"turned.{ending}", name, exif=turned)
    if name in ("GIF", "WEBP", "AVIF", "TIFF", "PNG"):
        frames = [picture().rotate(angle) for angle in (90, 180)]
        picture().save(folder / f"frames.{ending}", name, save_all=True, append_images=frames)


def image_files(name):
    """Return the names of the files of one format."""
    ending = ENDINGS.get(name, name.lower())
    names = [mode.replace(";", "") for mode in MODES[name]]
    names += ["turned"] * (name in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF"))
    names += ["frames"] * (name in ("GIF", "WEBP", "AVIF", "TIFF", "PNG"))
    return tuple(f"{stem}.{ending}" for stem in names)


def write_annotations(folder):
    """Write annotations with every usual field, and without those that may be missing."""
    size = {"width": PICTURE[0], "height": PICTURE[1], "license": 1}
    images = [{"id": 7 * n, "file_name": f"{n}.png", **size} for n in (1, 2, 3)]
    boxes = ([1, 2, 10, 12.5], [20.25, 3, 30, 9], [0, 0, 0.01, 5], [5, 5, 8, 8])
    annotations = [
        {
            "id": number,
            "image_id": images[number % 2]["id"],
            "category_id": 1 + 2 * (number % 2),
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(number == 3),
            "segmentation": [[1.0, 2.0, 11, 2, 11, 14.5]],
        }
        for number, box in enumerate(boxes)
    ]
    del annotations[0]["area"], annotations[0]["iscrowd"]
    categories = [{"id": 3, "name": "é", "supercategory": "thing"}, {"id": 1, "name": "cell"}]
    content = {
        "info": {"description": "a data set", "year": 2024},
        "licenses": [{"id": 1, "name": "none", "url": "http://localhost/"}],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    write_json(make(folder) / "instances_val.json", content, indent=None)
    for number in (1, 2, 3):
        picture().save(make(folder / "images") / f"{number}.png")


def write_data_folders(folder):
    """Write a data folder of each format besides COCO.

    The file that is damaged lies in a folder of its own, so that its neighbours are copied with it.
    """
    for name in ("data_yaml", "yolo_labels"):
        write_yolo(make(folder / name))
    write_voc(make(folder / "voc_xml"))
    for name in ("metadata_lines", "data_card"):
        write_image_folder(make(folder / name))


def write_results(folder):
    """Write results with every extra column, plain and compressed."""
    annotations = folder / "annotations" / "instances_val.json"
    random = np.random.default_rng(0)
    entries = [
        {
            "image_id": int(random.choice([7, 14])),
            "category_id": int(random.choice([1, 3])),
            "bbox": [round(float(value), 3) for value in random.uniform(1, 20, 4)],
            "score": float(random.random()),
            "source": number,
            "iou": 0.5,
            "density": 0.25,
            "edge_log_variance": [0.1, -0.2, 0.3, -0.4],
        }
        for number in range(8)
    ]
    text = json.dumps(entries).encode()
    (make(folder / "results") / "results.json").write_bytes(text)
    (make(folder / "results_gzip") / "results.json.gz").write_bytes(gzip.compress(text, mtime=0))
    for name in ("results", "results_gzip"):
        shutil.copyfile(annotations, folder / name / annotations.name)


def write_candidates(folder):
    """Write candidates with extra columns and two rows of detections."""
    categories = tuple(Category(3 * label + 1, f"class {label}") for label in range(3))
    path = make(folder) / "candidates.safetensors"
    with CandidateWriter(path, categories, "instances_val.json", {"seed": 1}) as writer:
        for first in (0, 2):
            found = random_candidates(12, seed=first)
            rows = {name: get_suppressor(name)(found) for name in ("nms", "soft_nms_linear")}
            writer.add(found, [10 + first, 11 + first], rows, dict.fromkeys(rows, 0.5))


def write_rescorers(folder):
    """Write a rescorer of each kind, and candidates that both can be used on."""
    for kind in ("contextual", "sce"):
        tiny_rescorer(kind).save(make(folder) / f"{kind}.safetensors")
    write_dump(folder / "c.safetensors", [found([3, 2])])


def write_run(folder):
    """Train a tiny run; return its recipe. What depends on the time and the place is set."""
    recipe = tiny("training.iterations=2", "detector.backbone.name=mobilenet_v3_large")
    run(folder, recipe)
    files = RunFolder(folder)
    tensors, about = load_tensors(files.checkpoint)
    save_tensors(files.checkpoint, tensors, about | {"time": 0.0})
    write_json(files.provenance, {"command": None, "seed": 0, "data_folder": None, "resumed": []})
    lines = [json.dumps({"iteration": number, "loss": 1.5, "lr": 0.02}) for number in (1, 2)]
    files.log.write_text("\n".join(lines) + "\n")
    shutil.rmtree(folder / "tensorboard")
    return recipe


def write_recipes(folder, recipe):
    recipes = {file: get_recipe(name) for file, name in DETECTORS.items()}
    detector = TorchvisionConfig(options={"box_score_thresh": 0.01})
    recipes["torchvision.json"] = recipe.model_copy(update={"detector": detector})
    for file, content in recipes.items():
        write_json(make(folder) / file, content.model_dump(mode="json"))
    own = make(folder.with_name("recipe_file"))
    (own / "mine.yaml").write_text(explain(recipe))
    changes = {"base": "demo", "stage": {"width": 8}, "training": {"steps": [3, 5], "lr": 1e-3}}
    write_json(own / "changes.json", changes)
    write_experiment(make(folder.with_name("experiment")), heuristics=HEURISTICS)


def write_parts(folder, recipe):
    """Write folders of runs of a tiny model, one for each file that is damaged."""
    run_folder = RunFolder(folder / "run")
    model = tiny_model()
    optimizer = tiny_optimizer(model)
    generators = {"0.cpu": torch.Generator().manual_seed(5).get_state()}
    about = {"finished": 2, "recipe": recipe.model_dump(mode="json"), "data_digest": "0" * 64}
    for name in ("labels", "provenance", "metrics", "pictures", "log", "weights", "checkpoint"):
        part = RunFolder(make(folder / name))
        for file in (part.recipe, part.provenance):
            shutil.copyfile(run_folder.root / file.name, file)
        write_json(part.labels, LABELS)
    evaluated = RunFolder(folder / "metrics")
    stored = {"score": 0.375, "f1": 0.5, "precision": 0.75, "recall": 0.375}
    figures = {"nms": {"AP": 30.0}, "best_f1": {"nms": stored, "post_nms": None}}
    write_json(evaluated.metrics, figures)
    write_json(evaluated.evaluation, {"seed": 0, "recipe": recipe.model_dump(mode="json")})
    write_json(RunFolder(folder / "pictures").pictures, ["0.png", "1.png"])
    shutil.copyfile(run_folder.log, RunFolder(folder / "log").log)
    weights, checkpoint = (RunFolder(folder / name) for name in ("weights", "checkpoint"))
    save_tensors(weights.weights, model_state(model), {"recipe": recipe.name})
    save_tensors(checkpoint.checkpoint, training_state(model, optimizer, generators), about)


def write_compared(folder):
    """Write the comparison of two rows, as ``postnms compare`` does."""
    figures = dict.fromkeys(FIGURES, 30.0) | {"APS": None}
    numbers = {"gain": 0.5, "low": -1.0, "high": 2.0, "milliseconds": 0.25}
    rows = [{"name": name, "figures": figures, **numbers} for name in ("nms", "run post_nms")]
    candidates = {"file": "c.safetensors", "seed": 0}
    write_json(make(folder) / "compare.json", {"candidates": candidates, "rows": rows})


def write_state_dicts(folder):
    """Write state dicts as other programs write them."""
    state = tiny_model().state_dict()
    torch.save(state, make(folder) / "state.pth")
    save_file(state, folder / "state.safetensors")
