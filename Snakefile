# What is rebuilt, and from what. Rules are in workflow/rules, values in config/, profiles in profiles/.
#
#   snakemake --cores all                                                                   the demo
#   snakemake --cores all --configfile config/miniplaces.yaml --config data_root=PATH       real photographs
#   snakemake --cores all partial                                                           tables from what is finished
#   snakemake --cores all --report results/report.html                                      all tables and figures in one file

from snakemake.utils import min_version

min_version("9.12")


if "experiment" not in config:

    configfile: "config/demo.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"


rule all:
    default_target: True
    input:
        TABLES,


include: "workflow/rules/data.smk"
include: "workflow/rules/teachers.smk"
include: "workflow/rules/students.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/tables.smk"
