"""Options that make each attack of the catalogue short enough for the tests that run over all of them."""

from surrogate import Resembling

SHORT = {
    "square": {"queries": 150},
    "apgd": {"steps": 15},
    "apgd_t": {"steps": 8, "targets": 3},
    "pgd": {"steps": 10},
    "pgd_restarts": {"times": 2, "steps": 5},
    "fmn": {"steps": 15},
    "pgd_adam": {"steps": 10},
    "nes": {"steps": 8, "pairs": 5},
    "spsa": {"steps": 8, "pairs": 5},
    "simba": {"queries": 150},
    "one_pixel": {"pixels": 2, "population": 12, "generations": 6},
    "rays": {"queries": 150},
    "pointwise": {"queries": 120, "starts": 10},
    "salt_and_pepper": {"grid": 8, "halvings": 4},
    "blur": {"grid": 8, "halvings": 4},
    "contrast": {"grid": 8, "halvings": 4},
    "pma": {"steps": 15},
    "apgd_restarts": {"times": 2, "steps": 8},
    "di_fgsm": {"steps": 5},
    "ti_fgsm": {"steps": 5},
    "si_fgsm": {"steps": 5, "copies": 3},
    "vmi_fgsm": {"steps": 4, "neighbours": 3},
    "vni_fgsm": {"steps": 4, "neighbours": 3},
    "patch": {"side": 1.0, "steps": 12, "tries": 2},
    "transferred": {"surrogate": Resembling()},
    "rotate_translate": {"angles": 3, "shifts": 3},
    "corruptions": {"severity": 2},
}
