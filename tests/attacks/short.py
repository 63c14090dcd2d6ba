"""Options that make each attack of the catalogue short enough for the tests that run over all of them."""

SHORT = {
    "square": {"queries": 150},
    "apgd": {"steps": 15},
    "apgd_t": {"steps": 8, "targets": 3},
    "pgd": {"steps": 10},
    "pgd_restarts": {"times": 2, "steps": 5},
    "fmn": {"steps": 15},
}
