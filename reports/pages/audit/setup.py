"""With what was an audit made: models, data, options?"""

from typing import Any

from reports import words


def facts(about: dict[str, Any]) -> list[tuple[str, str]]:
    """The data and the settings, each with its name."""
    configuration, data = about["configuration"], about["data"]
    classes, fast = data.get("classes") or [], configuration.get("fast") or {}
    return [
        ("data", str(configuration.get("data", ""))),
        ("examples", f"{data.get('n', 0):,}"),
        ("shape of an input", " × ".join(map(str, data.get("shape", [])))),
        ("values within", " to ".join(words.number(bound) for bound in data.get("bounds") or ())),
        ("classes", f"{len(classes):,}"),
        ("sha256 of the data", str(data.get("sha256", ""))),
        ("threats", ", ".join(configuration.get("threats", []))),
        ("seed", str(configuration.get("seed", ""))),
        ("device", str(configuration.get("device", ""))),
        *((f"{name} was searched", text.replace(",", ", ") or "as it is") for name, text in fast.items()),
        *((name, " ".join(model["source"])) for name, model in about["models"].items() if model.get("source")),
        *[("taken for granted", note) for note in data.get("notes", [])],
    ]


def thousands(model: dict[str, Any]) -> str:
    """The number of a model's parameters."""
    return f"{model['parameters']:,}" if isinstance(model.get("parameters"), int) else words.NOTHING


def described(options: Any) -> str:
    """An attack's options as a call would name them."""
    if isinstance(options, list):
        return "(" + ", ".join(map(described, options)) + ")"
    if not isinstance(options, dict):
        return str(options)
    rest = ", ".join(f"{name} = {described(value)}" for name, value in options.items() if name != "class")
    return f"{options.get('class', '')}({rest})" if "class" in options else rest
