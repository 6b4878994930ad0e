"""HTML reports: one self-contained page of a registration, and one of a whole batch."""

from rrl_register.report.batch_page import write_batch_report
from rrl_register.report.inputs import ReportInput, read_report_input
from rrl_register.report.scene_page import write_report

Case, read_case = ReportInput, read_report_input
"""The public names of ``ReportInput`` and ``read_report_input``."""

__all__ = ["Case", "read_case", "write_batch_report", "write_report"]
