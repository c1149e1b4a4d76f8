"""What deploy/ promises: the chart renders and passes Helm's linter, the Dockerfile its own, and every setting named
there is one that `serve` has."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from loraplex.platform.cli.serve import serve

DEPLOY = Path(__file__).parents[2] / "deploy"
CHART = DEPLOY / "helm" / "loraplex"
# What the chart cannot choose for anybody.
NEEDED = ("models[0].model=org/one", "database.url=postgresql://u:p@db/loraplex")
EVERYTHING = (
    *NEEDED,
    "models[1].model=/models/two",
    "bootstrapKey.existingSecret=boot",
    "settings.LORAPLEX_MAX_NUM_SEQS=64",
    "ingress.enabled=true",
    "ingress.host=llm.example.com",
    "networkPolicy.enabled=true",
    "serviceMonitor.enabled=true",
    "serviceMonitor.keySecret.name=scrape",
    "persistence.storageClassName=fast",
    "runtimeClassName=nvidia",
)


def helm(*arguments: str, values: tuple[str, ...]) -> "subprocess.CompletedProcess[str]":
    # The wheel brings Helm's own program, beside this interpreter.
    program = Path(sys.executable).with_name("helm")
    command = [str(program), *arguments, str(CHART)]
    for value in values:
        kind = "--set-string" if value.startswith("settings.") else "--set"
        command += [kind, value]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(values: tuple[str, ...]) -> dict[str, Any]:
    done = helm("template", "x", values=values)
    assert done.returncode == 0, done.stderr
    return {each["kind"]: each for each in yaml.safe_load_all(done.stdout) if each}


def variables() -> set[str]:
    return {name for option in serve.params for name in _names(option.envvar)}


def _names(given: Any) -> list[str]:
    return [] if given is None else [given] if isinstance(given, str) else list(given)


@pytest.mark.parametrize("values", [NEEDED, EVERYTHING], ids=["needed", "everything"])
def test_the_chart_passes_the_linter(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", values=values)
    assert done.returncode == 0, done.stdout


def test_the_chart_renders_what_values_say() -> None:
    objects = rendered(EVERYTHING)
    assert set(objects) == {
        "Secret",
        "StatefulSet",
        "Service",
        "Ingress",
        "NetworkPolicy",
        "ServiceMonitor",
    }
    pod = objects["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["args"] == [
        "serve",
        "--model=org/one",
        "--served-model-name=org/one",
        "--model=/models/two",
        "--served-model-name=two",
    ]
    env = {each["name"]: each for each in container["env"]}
    assert env["LORAPLEX_DATABASE_URL"]["valueFrom"]["secretKeyRef"] == {
        "name": "x-loraplex-database",
        "key": "url",
    }
    assert env["LORAPLEX_MAX_NUM_SEQS"]["value"] == "64"
    assert {name for name in env if name.startswith("LORAPLEX_")} <= variables()
    selector = objects["Service"]["spec"]["selector"]
    labels = objects["StatefulSet"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    assert "p@db" not in json.dumps({k: v for k, v in objects.items() if k != "Secret"})


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (NEEDED[:1], "database.existingSecret or database.url"),
        (NEEDED[1:], "at least one base model"),
        ((*NEEDED, "database.existingSecret=s"), "not both"),
        ((*NEEDED, "terminationGracePeriodSeconds=5"), "terminationGracePeriodSeconds"),
        ((*NEEDED, "settings.PATH=/tmp"), "settings"),
        # Secrets would stand in the pod for all to read, and the chart's probes know the port.
        ((*NEEDED, "settings.HF_TOKEN=x"), "settings"),
        ((*NEEDED, "settings.LORAPLEX_DATABASE_URL=x"), "settings"),
        ((*NEEDED, "settings.LORAPLEX_OIDC_CLIENT_SECRET=x"), "settings"),
        ((*NEEDED, "settings.LORAPLEX_PORT=x"), "settings"),
        ((NEEDED[0], "database.url=mysql://h/d"), "database"),
        ((*NEEDED, "ingress.enabled=true"), "ingress.host"),
    ],
)
def test_the_chart_refuses_what_cannot_work(values: tuple[str, ...], reason: str) -> None:
    done = helm("template", "x", values=values)
    assert done.returncode != 0
    assert reason in done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(program), str(DEPLOY / "Dockerfile")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def test_the_dockerfile_copies_every_top_folder() -> None:
    copied = set(re.findall(r"^COPY (\w+) \./\1$", (DEPLOY / "Dockerfile").read_text(), re.M))
    links = {p.name for p in (DEPLOY.parent / "src" / "loraplex").iterdir() if p.is_symlink()}
    assert copied == links | {"src"}


def test_every_variable_is_one_serve_has() -> None:
    for file in (DEPLOY / "Dockerfile", DEPLOY / "compose.yaml", DEPLOY / "loraplex.service"):
        named = set(re.findall(r"\bLORAPLEX_[A-Z_]+\b", file.read_text()))
        assert named, file
        assert named <= variables(), file


def test_the_services_of_compose_fit_together() -> None:
    compose: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    loraplex, database = compose["services"]["loraplex"], compose["services"]["database"]
    user, name = (database["environment"][f"POSTGRES_{what}"] for what in ("USER", "DB"))
    url = loraplex["environment"]["LORAPLEX_DATABASE_URL"]
    assert re.fullmatch(rf"postgresql://{user}:\$\{{POSTGRES_PASSWORD.*\}}@database/{name}", url)
    assert loraplex["ports"][0].startswith("127.0.0.1:")
    assert (DEPLOY / loraplex["build"]["context"] / loraplex["build"]["dockerfile"]).exists()


def test_the_unit_is_one_systemd_takes(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd here")
    # Its program must exist to be verified.
    text = (DEPLOY / "loraplex.service").read_text()
    unit = tmp_path / "loraplex.service"
    unit.write_text(text.replace("/opt/loraplex/bin/loraplex", sys.executable))
    done = subprocess.run(
        [program, "verify", str(unit)], capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
