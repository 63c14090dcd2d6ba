"""What must be typed to get an audit again?"""

import inspect
import shlex
from typing import Any

from attacks import CATALOG
from attacks.errors import InputError


def command(about: dict[str, Any]) -> str | None:
    """The command line of an audit, one option a line; None where it was not run from one."""
    asked = about["configuration"]
    if "weights" not in asked:
        return None
    lines = ["advgan audit"]
    lines += [f"--model {shlex.quote(spec)}" for spec in dict.fromkeys(asked["models"].values())]
    lines += [f"--data {shlex.quote(asked['data'])}"]
    lines += [f"--weights {shlex.quote(asked['weights'])}"] if asked["weights"] else []
    lines += [f"--image-size {asked['image_size']}"] if asked.get("image_size") else []
    lines += [f"--examples {asked['examples']}"] if asked.get("examples") else []
    lines += [f"--threat {shlex.quote(threat)}" for threat in asked["threats"]]
    lines += [f"--attack {shlex.quote(attack_text(name, options))}" for name, options in asked["attacks"].items()]
    lines += [] if asked.get("curves", True) else ["--no-curves"]
    lines += [f"--certify {asked['certify']}"] if asked.get("certify") else []
    lines += [f"--seed {asked['seed']} --device {asked['device']}"]
    return " \\\n  ".join(lines)


def call(about: dict[str, Any]) -> str:
    """The call from Python; `models` and `data` are the caller's own."""
    asked = about["configuration"]
    attacks = [attack_text(name, options) for name, options in asked["attacks"].items()]
    return "\n".join(
        [
            "from reports.audit import audit",
            "",
            "audit(",
            f"    models,  # {', '.join(asked['models'])}",
            f"    data,  # {' '.join(str(asked['data']).split())}",
            f"    threats={asked['threats']!r},",
            f"    attacks={attacks!r},",
            '    out="advgan-audit",',
            f"    examples={asked.get('examples')!r},",
            f"    seed={asked['seed']!r},",
            f"    device={asked['device']!r},",
            f"    curves={asked.get('curves', True)!r},",
            f"    certify={asked.get('certify', 0)!r},",
            ")",
        ]
    )


def attack_text(name: str, options: dict[str, Any]) -> str:
    """The text that gives an attack with these options: `pgd`, or `pgd:steps=20` where they differ from its defaults.

    The name alone where no text gives them: the options stand in the table of the configuration.
    """
    from reports.options import attack_from_text, described

    if ":" in name:
        return name
    try:
        usual, known = described(attack_from_text(name)), inspect.signature(CATALOG[name]).parameters
        changed = {each: value for each, value in options.items() if each in known and usual.get(each) != value}
        text = f"{name}:{','.join(f'{option}={_spelled(value)}' for option, value in changed.items())}"
        return text if changed and described(attack_from_text(text)) == options else name
    except InputError:
        return name


def _spelled(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
