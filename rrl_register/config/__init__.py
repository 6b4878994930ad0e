"""Settings of every stage, and their options on the command line and in YAML files."""

from rrl_register.config.settings import BatchConfig as BatchConfig
from rrl_register.config.settings import Crop as Crop
from rrl_register.config.settings import Device as Device
from rrl_register.config.settings import Effort as Effort
from rrl_register.config.settings import EstimateConfig as EstimateConfig
from rrl_register.config.settings import Kind as Kind
from rrl_register.config.settings import MatchConfig as MatchConfig
from rrl_register.config.settings import ModelChoice as ModelChoice
from rrl_register.config.settings import OutputGrid as OutputGrid
from rrl_register.config.settings import RasterFormat as RasterFormat
from rrl_register.config.settings import ReadConfig as ReadConfig
from rrl_register.config.settings import RegisterConfig as RegisterConfig
from rrl_register.config.settings import Resampling as Resampling
from rrl_register.config.settings import ResourceConfig as ResourceConfig
from rrl_register.config.settings import WarpConfig as WarpConfig
