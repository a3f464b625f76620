"""All kinds of files, with their damages and their readers."""

import torch

from postnms.data.image_files import FORMATS
from tests.fuzz import damage_gzip, damage_images, damage_tensors
from tests.fuzz.calls import VARIANTS, damage_call, read_call
from tests.fuzz.cases import Kind
from tests.fuzz.damage import damage_bytes, damage_words, mixture
from tests.fuzz.damage_json import damage_structure, damage_text
from tests.fuzz.read_data import (
    read_annotations,
    read_candidates,
    read_data_folder,
    read_image,
    read_rescorer,
    read_results,
    read_scenes,
    read_study,
)
from tests.fuzz.read_runs import (
    read_checkpoint,
    read_compared,
    read_experiment_file,
    read_foreign_weights,
    read_labels,
    read_log,
    read_metrics,
    read_own_recipe,
    read_pictures,
    read_provenance,
    read_recipe_file,
    read_run,
    read_weights,
)
from tests.fuzz.seeds import DETECTORS, image_files

torch.set_num_threads(1)

OF_JSON = mixture(*[damage_structure] * 6, damage_text, damage_bytes)
OF_LINES = mixture(*[damage_words] * 6, damage_bytes)
OF_GZIP = mixture(
    *[damage_gzip.damage_packed] * 4, damage_gzip.damage_members, damage_gzip.bomb, damage_bytes
)
OF_TENSORS = mixture(
    damage_tensors.damage_header,
    damage_tensors.damage_header_text,
    damage_tensors.damage_metadata,
    damage_tensors.damage_metadata,
    damage_tensors.damage_numbers,
    damage_tensors.damage_numbers,
    damage_tensors.damage_tensors,
    damage_bytes,
)
OF_IMAGES = mixture(
    *[damage_bytes] * 4,
    *[damage_images.damage_numbers] * 2,
    *[damage_images.damage_chunks] * 2,
    *[damage_images.damage_tags] * 2,
    *[damage_images.damage_frame] * 2,
    damage_images.become_foreign,
)


def settings(data, rng, others):
    """Damage a file of settings: JSON as such, YAML as bytes."""
    return (OF_JSON if data[:1] == b"{" else mixture(damage_bytes))(data, rng, others)


STUDY = r"c\.safetensors|instances_val\.json"
RUN = ("recipe.json", "labels.json", "weights.safetensors", "checkpoint.safetensors")


def by_content(data, rng, others):
    """Damage JSON, tensors, or the archive that ``torch.save`` writes."""
    if data.startswith(b"PK"):
        return mixture(damage_bytes)(data, rng, others)
    return (OF_JSON if data[:1] in b"[{" else OF_TENSORS)(data, rng, others)


KINDS = {
    "annotations": Kind(("instances_val.json",), OF_JSON, read_annotations, 8, blames="images"),
    "data_yaml": Kind(("data.yaml",), OF_LINES, read_data_folder, 2, blames="val|train"),
    "yolo_labels": Kind(("train/labels/a b.txt",), OF_LINES, read_data_folder, 2, blames="images"),
    "voc_xml": Kind(("Annotations/a b.xml",), OF_LINES, read_data_folder, 2, blames="Pascal"),
    "metadata_lines": Kind(
        ("train/metadata.jsonl",), OF_LINES, read_data_folder, 2, blames="metadata|README"
    ),
    "data_card": Kind(("README.md",), OF_LINES, read_data_folder, blames="metadata"),
    "results": Kind(("results.json",), OF_JSON, read_results, 5),
    "results_gzip": Kind(("results.json.gz",), OF_GZIP, read_results, 2),
    "candidates": Kind(("candidates.safetensors",), OF_TENSORS, read_candidates, 6),
    "rescorer": Kind(("contextual.safetensors", "sce.safetensors"), OF_TENSORS, read_rescorer, 2),
    "recipe": Kind((*DETECTORS, "torchvision.json"), OF_JSON, read_recipe_file, 6, blames="recipe"),
    "recipe_file": Kind(("mine.yaml", "changes.json"), settings, read_own_recipe, 4),
    "experiment": Kind(("mine.yaml",), OF_LINES, read_experiment_file, 2),
    "labels": Kind(("labels.json",), OF_JSON, read_labels, 3),
    "provenance": Kind(("provenance.json",), OF_JSON, read_provenance),
    "metrics": Kind(("metrics.json", "evaluation.json"), OF_JSON, read_metrics, blames="recipe"),
    "pictures": Kind(("pictures.json",), OF_JSON, read_pictures),
    "compared": Kind(("compare.json",), OF_JSON, read_compared),
    "log": Kind(("log.jsonl",), mixture(damage_bytes), read_log, 2),
    "scenes": Kind(("instances_train.json", "instances_val.json"), OF_JSON, read_scenes),
    "weights": Kind(("weights.safetensors",), OF_TENSORS, read_weights, 5, blames="training.start"),
    "checkpoint": Kind(("checkpoint.safetensors",), OF_TENSORS, read_checkpoint, 5),
    "state_dict": Kind(
        ("state.pth", "state.safetensors"),
        by_content,
        read_foreign_weights,
        3,
    ),
    "run": Kind(
        RUN, by_content, read_run, blames="|".join((*RUN, "detector", "stage", "training"))
    ),
    "study": Kind(("c.safetensors", "instances_val.json"), by_content, read_study, 3, blames=STUDY),
    "call": Kind(
        ("call.json",),
        mixture(damage_call),
        read_call,
        6,
        error=ValueError,
        blames=f"^({'|'.join(VARIANTS)})",
    ),
} | {f"image_{name.lower()}": Kind(image_files(name), OF_IMAGES, read_image, 2) for name in FORMATS}
"""All kinds by name."""
