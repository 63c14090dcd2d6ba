"""Which data is meant where a command names none?"""


def digits_for(specs: list[str]) -> str:
    """The digits, for models of digits; InputError for any others."""
    from attacks.errors import InputError

    others = [spec for spec in specs if spec.partition(":")[0] != "digits"]
    if others:
        raise InputError(f"--model {others[0]} needs --data: FILE.npz, FILE.csv, a folder, or what else --help lists.")
    return "digits"
