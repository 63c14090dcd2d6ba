"""What do all pages have in common, and how does one become a file that needs nothing else?

A page of its own is three things: a dataclass that adds to `Page` what it shows, a function that fills it from saved
data, and a template that extends templates/base.html. `rendered` puts them together.
"""

from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

TEMPLATES = Path(__file__).parents[1] / "templates"
TINY = 64  # pixels; smaller pictures are enlarged with hard edges


@dataclass(frozen=True)
class Headline:
    """What is read first."""

    title: str
    detail: list[str]  # sentences, the foremost first
    facts: list[tuple[str, str]]  # what, and how many
    doubtful: str = ""  # a sentence; empty where nothing speaks against the title


@dataclass(frozen=True)
class Page:
    """What every page has."""

    title: str  # of the window
    headline: Headline


@dataclass(frozen=True)
class Picture:
    """An image that stands in the page itself."""

    uri: str  # as figures.png makes it
    alt: str  # the picture in words
    caption: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Chart:
    """A drawing in the page's own colours."""

    title: str
    note: str
    svg: Markup
    told: str  # the chart in words
    legend: list[str]  # names of the lines; empty where there is one


@dataclass(frozen=True)
class Doubt:
    """A sentence that speaks against believing what the page says."""

    severity: str  # "note", or another word for a warning
    about: list[str]
    text: str


def rendered(template: str, page: Page) -> str:
    """The whole file: a template of reports/templates with `page` in it. The same page gives the same bytes.

    Every string is escaped but Markup; a name that the page lacks is an error.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["tight"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment.get_template(template).render(page=page)


def is_tiny(shape: tuple[int, ...] | list[int]) -> bool:
    """Whether images of a shape [..., H, W] are enlarged with hard edges."""
    return max(shape[-2:], default=0) < TINY
