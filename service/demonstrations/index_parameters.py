"""The parameters of both stores' indexes: fields, and from what size a graph (HNSW) is searched.

`corpus` builds an index. One that another encoder built is refused at the start, by
`store.IndexMismatch`, which `qdrant_edge.card` and `qdrant_server` raise.
"""

from service.demonstrations.encoder import DIMENSIONS
from service.demonstrations.points import EDITION, KIND, LABEL_SPACE, TENANT

# Each value of this field has graphs of its own. One graph for all, filtered by label space, has a
# recall of 0.91 for the nearest four, with half of 50,000 demonstrations in the label space.
GRAPHED_BY = LABEL_SPACE
# The other fields that filters use; their values have no graphs.
FILTERED_BY = (EDITION, TENANT, KIND)

# Up to this many demonstrations a label space is searched exactly, in 2 ms on one core; beyond, it
# has a graph.
EXACT_UP_TO = 30_000

# The graph: edges of a vector, and the candidates kept while it is built and searched. The recall
# of the nearest four among 75,000 is 0.997; 0.990 with half the candidates in the build, 0.982 with
# half in the search. Among a million it is 0.978: there more edges would help.
EDGES = 32
CANDIDATES_OF_A_BUILD = 200
CANDIDATES_OF_A_SEARCH = 256


def kilobytes(vectors: int) -> int:
    """The size of vectors in KiB, at least 1: the unit of Qdrant's thresholds."""
    return max(1, vectors * DIMENSIONS * 4 // 1024)
