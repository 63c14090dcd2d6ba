"""How a model is passed through: there and back, recorded, in a cheaper form."""
