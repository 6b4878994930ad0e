"""HTML reports: one self-contained page of a registration, and one of a whole batch."""

from rrl_register.report.batch_page import write_batch_report
from rrl_register.report.inputs import ReportInput as Case
from rrl_register.report.inputs import read_report_input as read_case
from rrl_register.report.scene_page import write_report

__all__ = ["Case", "read_case", "write_batch_report", "write_report"]
