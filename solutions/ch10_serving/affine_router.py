"""affinity.py as a policy of Ray Serve: its own extension point, a RequestRouter."""

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from ch10_serving.affinity import choose, ranking
from ch10_serving.asgi_call import HttpRequest


class AffineRouter(RequestRouter):
    """Sends requests that begin alike to the same replica, unless it has more than its share."""

    async def choose_replicas(
        self, candidate_replicas: list[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        """First the replica that `choose` names; should it be full, the others in order of the ranking.

        Serve keeps count of what this router has sent to each; of a replica that has just come it knows nothing.
        """
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        request = pending_request.args[0] if pending_request is not None and pending_request.args else None
        key = request.beginning if isinstance(request, HttpRequest) else b""
        loads = {name: self.replica_queue_len_cache.get(replica.replica_id) or 0 for name, replica in by_name.items()}
        first = choose(key, loads)
        return [[by_name[first]], *([by_name[name]] for name in ranking(key, by_name) if name != first)]
