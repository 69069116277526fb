"""Parts of networks that two or more tasks share."""

from densevision.nn.deferred_compiler import import_network_libraries

import_network_libraries()
