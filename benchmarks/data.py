"""Reading annotations of COCO's size, the memory that they take, and loading images in evaluation.

Three parts, each in processes of their own:

- ``read``: the seconds and the peak of memory of reading the annotations of a training split.
- ``share``: the memory that they take in several training processes with loader workers, all
  together: the sum of their proportional set sizes, minus that sum with a split of one image.
- ``load``: images of an evaluation a second, with 0, 1, 2 ... workers, where a detector takes 25 ms
  an image on an accelerator. The medians of three rounds.

The annotation file is made by a seed, with as many images, boxes and characters of polygons as
COCO's train2017, which is about 450 MB. Its images do not exist. Those of ``load`` are JPEG files
of 640 x 480 pixels. Memory is read from ``/proc``, so the script needs Linux.

    python benchmarks/data.py
    python benchmarks/data.py --parts read --images 1000 --boxes 7000
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

MIB = 2**20
BATCH = 8
DETECTOR = 0.025
"""Seconds that the detector of the part ``load`` takes for an image. It is a mere wait."""
POLYGONS = 2000
"""Number of different polygons of the file."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--parts", nargs="+", default=["read", "share", "load"])
    parser.add_argument("--images", type=int, default=118_287)
    parser.add_argument("--boxes", type=int, default=860_001)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--workers", type=int, default=2, help="of each training process")
    parser.add_argument("--pictures", type=int, default=256, help="of the part 'load'")
    parser.add_argument("--loaders", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", nargs="+", help="what a process of the script itself does")
    args = parser.parse_args()
    if args.child:
        child(*args.child)
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if {"read", "share"} & set(args.parts):
            size = write_annotations(root / "coco", args.images, args.boxes, args.seed)
            write_annotations(root / "tiny", 1, 1, args.seed)
            print(f"{args.images} images, {args.boxes} boxes, {size / MIB:.0f} MiB of JSON")
        if "read" in args.parts:
            print_reading(root)
        if "share" in args.parts:
            for count in args.processes:
                print_sharing(root, count, args.workers)
        if "load" in args.parts:
            print_loading(root / "pictures", args.pictures, args.loaders)


def write_annotations(root, images, boxes, seed):
    """Write train and val annotations, and return the size of the former in bytes."""
    random = np.random.default_rng(seed)
    (root / "images").mkdir(parents=True)
    polygons = [polygon(random) for _ in range(POLYGONS)]
    path = root / "instances_train.json"
    entry = '{"id": %d, "file_name": "%012d.jpg", "height": 480, "width": 640, "license": 3, %s}'
    links = '"date_captured": "2013-11-14 11:18:45", "flickr_url": "http://photos.example/1.jpg"'
    names = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
    where = np.sort(random.integers(0, images, boxes))
    classes = random.integers(1, 81, boxes)
    crowd = random.random(boxes) < 0.01
    corners, sides = random.random((boxes, 2)) * 300, 1 + random.random((boxes, 2)) * 170
    numbers = np.concatenate([corners, sides], axis=1).round(2).tolist()
    picked = random.integers(0, POLYGONS, boxes)
    with path.open("w") as file:
        file.write('{"info": {"year": 2017}, "images": [')
        file.write(", ".join(entry % (i + 1, i + 1, links) for i in range(images)))
        file.write('], "annotations": [')
        for row, box in enumerate(numbers):
            file.write(", " if row else "")
            file.write(
                f'{{"segmentation": {polygons[picked[row]]}, "area": {box[2] * box[3] / 2:.4f}, '
                f'"iscrowd": {int(crowd[row])}, "image_id": {where[row] + 1}, "bbox": {box}, '
                f'"category_id": {classes[row]}, "id": {row * 7 + 1}}}'
            )
        file.write(f'], "categories": {json.dumps(names)}}}')
    (root / "instances_val.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "1.jpg", "height": 480, "width": 640}],
                "annotations": [],
                "categories": names,
            }
        )
    )
    return path.stat().st_size


def polygon(random):
    """Return a polygon as COCO writes it: 2 numbers a corner, with two digits."""
    corners = int(random.gamma(2.0, 11.0)) + 3
    return json.dumps([(random.random(2 * corners) * 600).round(2).tolist()])


def print_reading(root):
    tiny, whole = (run_child("read", root / name) for name in ("tiny", "coco"))
    print(f"read: {whole['seconds']:.1f} s, of which {whole['busy']:.1f} s on a processor")
    print(f"  memory of the process before: {whole['before']:.0f} MiB")
    print(f"  at the peak: {whole['peak'] - tiny['peak']:+.0f} MiB (with the pages of the file)")
    print(f"  kept: {whole['after'] - tiny['after']:+.0f} MiB")


def print_sharing(root, count, workers):
    tiny, whole = (run_child("share", root / name, workers, processes=count) for name in NAMES)
    more = whole["pss"] - tiny["pss"]
    print(
        f"share: {count} processes with {workers} workers each hold {more:.0f} MiB of annotations "
        f"together, read in {whole['seconds']:.1f} s"
    )


NAMES = ("tiny", "coco")


def print_loading(folder, count, loaders):
    from PIL import Image

    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = Image.fromarray(random.integers(0, 255, (60, 80, 3), np.uint8))
        noise.resize((640, 480)).save(folder / f"{number}.jpg", quality=90)
    rounds = [{n: run_child("load", folder, n)["speed"] for n in loaders} for _ in range(3)]
    for number in loaders:
        speed = float(np.median([found[number] for found in rounds]))
        print(f"load: {number} workers: {speed:.1f} images/s")


def run_child(*words, processes=1):
    """Run this script as new processes, and return the JSON that the first of them prints."""
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    command += [__file__, "--child", *map(str, words)]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout.splitlines()[-1])


def child(part, *words):
    {"read": child_read, "share": child_share, "load": child_load}[part](*words)


def open_train(root):
    from postnms.data import DataConfig, open_splits

    return open_splits(DataConfig(), Path(root), size=(800, 1333)).train


def child_read(root):
    import postnms.training  # noqa: F401  The memory of its imports is no memory of the data.

    before = memory("Pss")
    started, busy = time.perf_counter(), time.process_time()
    data = open_train(root)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    after = memory("Pss")
    assert len(data)
    found = {"seconds": seconds, "busy": busy, "before": before, "peak": peak, "after": after}
    print(json.dumps(found))


def child_share(root, workers):
    """Open the data in each process and look at all records in its workers."""
    import torch
    from accelerate.utils import gather_object
    from torch.utils.data import DataLoader

    from postnms.distributed.processes import end_processes, this_process

    process = this_process()
    started = time.perf_counter()
    data = open_train(root)
    seconds = time.perf_counter() - started
    torch.set_num_threads(1)
    loader = DataLoader(Looks(data, int(workers)), batch_size=None, num_workers=int(workers))
    found = []
    for look in loader:
        process.wait_for_everyone()
        found.append(look)
    total = [memory("Pss") + sum(found)]
    total = gather_object(total) if process.num_processes > 1 else total
    end_processes()
    if process.is_main_process:
        print(json.dumps({"pss": sum(total), "seconds": seconds}))


class Looks:
    """A worker's look at every record. Item: its memory after that, while the others live."""

    def __init__(self, data, workers):
        self.data = data
        self.workers = workers

    def __len__(self):
        return self.workers

    def __getitem__(self, index):
        boxes = sum(len(record.labels) for record in self.data.dataset.records)
        assert boxes >= 0
        time.sleep(3)
        return memory("Pss")


def child_load(folder, workers):
    import torch

    from postnms.data.dataset import Category, Dataset, Record, Truth
    from postnms.data.loader import DetectionData, batches

    torch.set_num_threads(1)
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.bool_)
    records = [
        Record(i, path, 480, 640, *nothing) for i, path in enumerate(sorted(Path(folder).iterdir()))
    ]
    dataset = Dataset(Truth((Category(1, "a"),), {}, "pictures"), tuple(records))
    data = DetectionData(dataset, 800, 1333, workers=int(workers))
    started = time.perf_counter()
    for batch in batches(data, range(len(data)), BATCH):
        # A detector on an accelerator: this process waits for it.
        time.sleep(len(batch.images) * DETECTOR)
    seconds = time.perf_counter() - started
    print(json.dumps({"speed": len(records) / seconds}))


def memory(kind):
    """Return the memory of this process in MiB, of one of the kinds of ``smaps_rollup``."""
    lines = Path(f"/proc/{os.getpid()}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1024


if __name__ == "__main__":
    main()
