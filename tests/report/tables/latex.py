"""pdflatex, for the tests of tables that are to be printed."""

import shutil
import subprocess

import pytest


def _has_latex() -> bool:
    command = ["kpsewhich", "booktabs.sty", "graphicx.sty", "article.cls"]
    return shutil.which("kpsewhich") is not None and not subprocess.run(command, capture_output=True).returncode


needs_latex = pytest.mark.skipif(not _has_latex(), reason="LaTeX with booktabs and graphicx is not installed")


def compile_latex(path):
    """Compile a document that has nothing but the table, with the packages that its first line names."""
    preamble = r"\documentclass{article}\usepackage{booktabs,graphicx}"
    document = preamble + r"\begin{document}\input{" + path.name + r"}\end{document}"
    (path.parent / "main.tex").write_text(document)
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "main.tex"]
    done = subprocess.run(command, cwd=path.parent, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
