"""Where a classifier's decision boundary is: how far along a direction, how bent, and what a plane through it shows."""

from . import directions
from .distances import Distances, distances
from .geometry import Geometry, geometry
from .planes import Plane, plane
from .walks import Walk, walk

__all__ = ["Distances", "Geometry", "Plane", "Walk", "directions", "distances", "geometry", "plane", "walk"]
