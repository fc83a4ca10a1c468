"""The command line: ``gahb reproduce``, ``train``, ``list``, ``store``, ``claims``, ``data``, ``check``."""

import sys
from pathlib import Path

import click

from gahb import __version__


def _known_scale(context, option, name):
    """A misspelt name is told before papermill and matplotlib are imported, which takes seconds."""
    from gahb.companion import scales

    return scales.get(name).name


def _there(context, option, path):
    """A path that leads nowhere is told at once, not by each notebook in its turn."""
    if path == "" or (path not in (None, "lfw") and not Path(path).expanduser().exists()):
        wanted = "the path of a .pt file" if option.name == "denoiser" else "a folder of images or an array"
        raise FileNotFoundError(f"{option.name}: there is no folder or file {path or repr(path)}; give {wanted}")
    return path


def _at_least(low, what):
    """Callback that refuses smaller numbers."""

    def check(context, option, value):
        if value is not None and not value >= low:
            raise ValueError(f"{option.opts[0]} must be {what}, got {value}")
        return value

    return check


SCALE = click.option(
    "--scale", default="smoke", show_default=True, callback=_known_scale, help="smoke, laptop, paper-short or paper."
)
STORE = click.option("--store", type=click.Path(), help="Folder of trained denoisers.")
SEED = click.option(
    "--seed",
    default=0,
    show_default=True,
    callback=_at_least(0, "at least 0"),
    help="Of training, noise and images.",
)
DEVICE = click.option("--device", default="auto", show_default=True, help="auto, cuda, mps or cpu.")
FACES = click.option("--faces", type=click.Path(), callback=_there, help="Folder, .npz, .npy or .pt of faces, or lfw.")
SCENES = click.option("--scenes", type=click.Path(), callback=_there, help="The same for scenes (bedrooms).")
JOBS = click.option("--jobs", type=int, help="How many to run at once; one a core on a CPU if left out.")
FIGURES = click.option("--figures", type=click.Path(), help="Folder of the figures, one folder a scale in it.")


class _Sentences(click.Group):
    """Errors of the user's are one sentence on stderr, not a traceback; exit status 1."""

    def invoke(self, context):
        try:
            return super().invoke(context)
        except (click.exceptions.Exit, click.Abort, BrokenPipeError):  # --help, no answer, | head: not errors
            raise
        except (ValueError, OSError, RuntimeError) as error:
            click.echo(f"gahb: {error}", err=True)
            context.exit(1)
        except KeyboardInterrupt:
            click.echo("gahb: stopped; what was trained is kept, and the same command goes on from there", err=True)
            context.exit(130)


@click.group(cls=_Sentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="gahb")
def main():
    """Geometry-adaptive harmonic bases in denoisers and diffusion models.

    Example: gahb reproduce --scale smoke
    """


@main.command()
@SCALE
@click.option("--only", multiple=True, help="Beginning of a notebook's name, such as 03; can be given again.")
@FACES
@SCENES
@STORE
@FIGURES
@click.option("--runs", type=click.Path(), help="Folder of the executed notebooks, one folder a scale in it.")
@SEED
@DEVICE
@JOBS
@click.option("--denoiser", type=click.Path(), callback=_there, help="A released denoiser, shown in notebook 03.")
def reproduce(scale, only, **options):
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
@click.option("--only", multiple=True, help="A denoiser's name or its beginning, such as faces-S1; can be given again.")
@FACES
@SCENES
@STORE
@SEED
@DEVICE
@JOBS
@click.option(
    "--time-limit",
    type=float,
    callback=_at_least(sys.float_info.min, "positive"),
    help="Seconds after which training stops with a checkpoint.",
)
@click.option("--cluster", type=click.Choice(["slurm", "local"]), help="Submit each as a job; local: all here at once.")
@click.option("--slurm", multiple=True, help="Option of sbatch, such as partition=gpu; can be given again.")
def train(scale, only, faces, scenes, store, seed, device, jobs, time_limit, cluster, slurm):
    """Train the denoisers of a scale that the store lacks.

    \b
    Example: gahb train --scale paper --only faces --faces my_faces/ --time-limit 540
             gahb train --scale paper --only disks --cluster slurm --slurm gpus-per-node=1
    """
    from gahb._util.devices import keep_freed_memory
    from gahb.companion import scales
    from gahb.training.parallel import train_all

    scale = scales.get(scale)
    if slurm and not cluster:
        raise ValueError(f"--slurm {' '.join(slurm)} needs --cluster slurm")
    if cluster and jobs:
        raise ValueError("--jobs is for training here; with --cluster each denoiser is a job")
    tasks = scales.tasks(scale, only, faces, scenes, seed, store)
    if cluster:
        from gahb.training.cluster import submit

        submit(tasks, cluster, store, device, time_limit, slurm, click.echo)
        return
    keep_freed_memory()
    if not train_all(tasks, store, device, scales.pick_jobs(scale, device, jobs), time_limit, click.echo):
        click.echo("time limit reached; the same command resumes")


@main.command(name="list")
@STORE
def list_denoisers(store):
    """List the denoisers of the store.

    Example: gahb list --store runs/store
    """
    from gahb.training.store import default_store, stored

    if store is not None and not Path(store).expanduser().is_dir():
        raise FileNotFoundError(f"--store: there is no folder {store}; give one that gahb train wrote to")
    rows = stored(store)
    for row in rows:
        made = row["made"]
        click.echo(f"{row['folder']:45} {made['images_seen']:>12,} images {made['seconds']:>9,.0f} s  {made['device']}")
    click.echo(f"{len(rows)} denoisers in {Path(store or default_store())}")


@main.command()
@SCALE
@FIGURES
def claims(scale, figures):
    """Judge the claims anew from the recorded measurements.

    Example: gahb claims --scale laptop
    """
    from gahb.companion import claims as ledger
    from gahb.companion import notebook

    folder = Path(figures or notebook.default_figures()).expanduser() / scale
    measured = ledger.read(folder)
    if not measured:
        raise ValueError(f"there is no ledger in {folder}; run gahb reproduce --scale {scale} first")
    for claim in ledger.CLAIMS:
        click.echo(f"{claim.id:4} {ledger.verdict(claim, measured.get(claim.id), scale):15} {claim.statement}")


@main.command()
@click.argument("path")
@click.option("--size", default=40, show_default=True, help="Of the prepared images, pixels.")
@click.option("--sheet", type=click.Path(), help="PNG of the contact sheet; <name>-contact-sheet.png if left out.")
def data(path, size, sheet):
    """Say what a folder or array of photographs holds.

    It is read as training would read it, and shown on a contact sheet.

    Example: gahb data my_faces/
    """
    from gahb.companion import scales
    from gahb.datasets import survey as surveys

    sheet = Path(sheet).expanduser() if sheet else surveys.default_sheet(path)
    surveys.check_sheet(sheet, path)
    needs = scales.photograph_needs()
    found = surveys.survey(path, size, 2 * max(2 * max(sizes) + test for *_, sizes, test in needs))
    click.echo("\n".join(found.lines(needs)))
    if len(found.pixels):
        surveys.contact_sheet(found.pixels, sheet)
        click.echo(f"contact sheet: {sheet}")
