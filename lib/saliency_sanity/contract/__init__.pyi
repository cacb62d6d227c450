from .clauses import ContractError as ContractError
from .clauses import Report as Report
from .clauses import Severity as Severity
from .clauses import Violation as Violation
from .trial import check_method as check_method
