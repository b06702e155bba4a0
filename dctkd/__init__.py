"""dctkd: a benchmark of knowledge distillation that can be rerun, resumed and checked, bit for bit."""

__version__ = "0.1.0"
