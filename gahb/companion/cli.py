"""The command line: ``gahb reproduce``, ``train``, ``list``, ``claims``, ``data`` and ``assess``."""

import sys
from pathlib import Path
from typing import Any

import click

from gahb._util.files import absent


class _Path(click.Path):
    """A path, of which ``~`` is expanded: shells leave the one of ``--store=~/runs`` as it is."""

    def convert(self, value: Any, option: click.Parameter | None, context: click.Context | None) -> Any:
        return super().convert(str(Path(value).expanduser()) if str(value).startswith("~") else value, option, context)


def _known_scale(context: click.Context, option: click.Parameter, name: str) -> str:
    """Refuse a misspelt name before papermill and matplotlib are imported, which takes seconds."""
    from gahb.companion import scales

    return scales.get(name).name


def _existing(context: click.Context, option: click.Parameter, path: str | None) -> str | None:
    """Refuse a path that does not exist now, rather than in each notebook."""
    others = {"denoiser": "the path of a .pt file", "model": "the folder of a diffusers pipeline"}
    wanted = others.get(option.name or "", "a folder of images or an array")
    if path == "":
        raise ValueError(f"{option.name}: the path is empty; give {wanted}")
    if path not in (None, "lfw") and not Path(path).exists():
        raise absent(path, option.name, wanted)
    return path


SCALE = click.option(
    "--scale", default="smoke", show_default=True, callback=_known_scale, help="smoke, laptop, paper-short or paper."
)
STORE = click.option("--store", type=_Path(), help="Folder of trained networks.")
SEED = click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of training, noise and images."
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu.")
FACES = click.option("--faces", type=_Path(), callback=_existing, help="Folder, .npz, .npy or .pt of faces, or lfw.")
SCENES = click.option("--scenes", type=_Path(), callback=_existing, help="The same for scenes (bedrooms).")
JOBS = click.option("--jobs", type=click.IntRange(1), help="Number to run at once; by default one per core on a CPU.")
FIGURES = click.option("--figures", type=_Path(), help="Folder of figures, with a folder for each scale.")


class _Sentences(click.Group):
    """Shows a user's errors as one sentence on stderr, without a traceback; exit status 1."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):  # --help, a prompt left, | head: not errors
            raise
        except (ValueError, OSError, RuntimeError) as error:
            click.echo(f"gahb: {error}", err=True)
            context.exit(1)
        except KeyboardInterrupt:
            click.echo("gahb: stopped; what was trained is kept, and the same command resumes it", err=True)
            context.exit(130)


@click.group(cls=_Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="gahb", prog_name="gahb")
def main() -> None:
    """Geometry-adaptive harmonic bases in denoisers and diffusion models.

    Example: gahb reproduce --scale smoke
    """


@main.command()
@SCALE
@click.option("--only", multiple=True, help="Beginning of a notebook's name, such as 03; can be repeated.")
@FACES
@SCENES
@STORE
@FIGURES
@click.option("--runs", type=_Path(), help="Folder of executed notebooks, with a folder for each scale.")
@SEED
@DEVICE
@JOBS
@click.option("--denoiser", type=_Path(), callback=_existing, help="A released denoiser, shown in notebook 03.")
@click.option(
    "--model", type=_Path(), callback=_existing, help="Folder of a diffusers pipeline, analysed in notebook 07."
)
def reproduce(scale: str, only: tuple[str, ...], **options: Any) -> None:
    """Run the notebooks, and write figures, claims and report.

    Example: gahb reproduce --scale laptop --only 03 --faces my_faces/
    """
    from gahb.companion.reproduce import reproduce as run_all

    failed = run_all(scale, only, echo=click.echo, **options)
    if failed:
        click.echo(f"gahb: {len(failed)} failed: {', '.join(failed)}", err=True)
        sys.exit(1)


@main.command()
@SCALE
@click.option("--only", multiple=True, help="A network's name or its beginning, such as faces-S1; can be repeated.")
@FACES
@SCENES
@STORE
@SEED
@DEVICE
@JOBS
@click.option(
    "--time-limit",
    type=click.FloatRange(0, min_open=True),
    help="Seconds after which training stops with a checkpoint.",
)
@click.option("--cluster", type=click.Choice(["slurm", "local"]), help="Submit each as a job; local: all here at once.")
@click.option("--slurm", multiple=True, help="Option of sbatch, such as partition=gpu; can be repeated.")
def train(
    scale: str,
    only: tuple[str, ...],
    faces: str | None,
    scenes: str | None,
    store: str | None,
    seed: int,
    device: str,
    jobs: int | None,
    time_limit: float | None,
    cluster: str | None,
    slurm: tuple[str, ...],
) -> None:
    """Train the networks of a scale that the store lacks.

    \b
    Example: gahb train --scale paper --only faces --faces my_faces/ --time-limit 540
             gahb train --scale paper --only disks --cluster slurm --slurm gpus-per-node=1
    """  # noqa: D301 (click reads the backspace)
    from gahb._util.devices import keep_freed_memory, keep_to_quota
    from gahb.companion import scales, tasks
    from gahb.training.parallel import train_all

    if slurm and cluster != "slurm":
        raise ValueError(f"--slurm {' '.join(slurm)} needs --cluster slurm")
    if cluster and jobs:
        raise ValueError("--jobs is for training here; with --cluster each network is a job")
    chosen = tasks.of_scale(scales.get(scale), only, faces, scenes, seed, store)
    if cluster:
        from gahb.training.cluster import TIME_LIMIT, submit

        submit(chosen, cluster, store, device, time_limit or TIME_LIMIT, slurm, click.echo)
        return
    keep_freed_memory()
    keep_to_quota()
    if not train_all(chosen, store, device, tasks.pick_jobs(scales.get(scale), device, jobs), time_limit, click.echo):
        click.echo("time limit reached; the same command resumes training")


@main.command(name="list")
@click.option("--store", type=_Path(exists=True, file_okay=False), help="Folder of trained networks.")
def list_networks(store: str | None) -> None:
    """List the networks of the store.

    Example: gahb list --store runs/store
    """
    from gahb.training.store import default_store, stored

    rows = stored(store)
    for row in rows:
        made = row["made"]
        click.echo(f"{row['folder']:45} {made['images_seen']:>12,} images {made['seconds']:>9,.0f} s  {made['device']}")
    click.echo(f"{len(rows)} networks in {Path(store or default_store())}")


@main.command()
@SCALE
@FIGURES
def claims(scale: str, figures: str | None) -> None:
    """Judge the claims again from the recorded measurements.

    Example: gahb claims --scale laptop
    """
    from gahb.companion import ledger, notebook
    from gahb.companion.claims import CLAIMS

    folder = Path(figures or notebook.default_figures()).expanduser() / scale
    records = ledger.read(folder)
    if not records:
        raise ValueError(f"there is no ledger in {folder}; run gahb reproduce --scale {scale} first")
    for claim in CLAIMS:
        row = ledger.entry(claim, records.get(claim.id), scale)
        remark = row["reason"] or ("the null passes too" if row["null_passes"] else "")
        click.echo(f"{claim.id:4} {row['verdict']:15} {claim.statement}" + (f" ({remark})" if remark else ""))


@main.command()
@click.argument("path", type=_Path())
@click.option("--size", default=40, show_default=True, help="Height and width of the prepared images, pixels.")
@click.option("--sheet", type=_Path(), help="Also write a contact sheet: path of a PNG.")
def data(path: str, size: int, sheet: str | None) -> None:
    """Report what a folder or array of photographs holds.

    Example: gahb data my_faces/ --sheet my_faces.png
    """
    from gahb.companion import tasks
    from gahb.datasets import survey as surveys

    if sheet:
        surveys.check_absent(sheet)  # reported now, not after all photographs are read
    needs = tasks.photograph_needs()
    found = surveys.survey(path, size, 2 * max(2 * max(sizes) + test for *_, sizes, test in needs))
    click.echo("\n".join(found.lines(needs)))
    if sheet:
        surveys.contact_sheet(found.pixels, sheet)
        click.echo(f"contact sheet: {sheet}")


IMAGES = {"type": _Path(), "callback": _existing}


@main.command()
@click.option("--samples", required=True, help="Samples of the model: folder, .npz, .npy or .pt.", **IMAGES)
@click.option("--train", required=True, help="The images that it was trained on.", **IMAGES)
@click.option("--unseen", help="Images of the same kind that it was not trained on.", **IMAGES)
@click.option("--twin", help="Samples, from the same noise, of a model with another training set.", **IMAGES)
@click.option("--out", type=_Path(), default="assessment", show_default=True, help="Folder of the page.")
def assess(samples: str, train: str, unseen: str | None, twin: str | None, out: str) -> None:
    """Find out whether a generative model copies its training set.

    Example: gahb assess --samples my_samples/ --train my_faces/ --unseen other_faces/
    """
    from gahb.companion.assess_page import assess_folders

    click.echo("\n".join(assess_folders(samples, train, unseen, twin, out)))
