"""What is put through one node is read through another that is in trouble: it must be there at once."""

import time

from service import grpc, refused
from verdict import check, note


def read_through(name, services, buckets, seconds, when):
    """For so long, with a service for each node by its name."""
    troubled = services[name]
    other = next(service for other, service in services.items() if other != name)
    took, wrong, keys, until = [], [], [b"as new as anywhere"], time.monotonic() + seconds
    while time.monotonic() < until:
        for bucket in buckets:
            value = str(len(took)).encode()
            try:
                other.put(bucket, keys[-1], value, 20)
            except grpc.RpcError:
                # Leaders may move: how puts fare is for the writers to say. This one may still come, so its key is left alone.
                keys.append(keys[0] + str(len(keys)).encode())
                continue
            try:
                asked_at = time.monotonic()
                read = troubled.get(bucket, keys[-1])
                took.append(time.monotonic() - asked_at)
                if read != value:
                    wrong.append(f"{bucket}: {read} and not {value}")
            except grpc.RpcError as error:
                wrong.append(f"{bucket}: {refused(error)}: {error.details()}")
    for bucket in buckets:
        for key in keys:
            other.delete(bucket, key)
    middle = sorted(took)[len(took) // 2] if took else float("nan")
    check(took and not wrong, f"{when}, {len(took)} reads through {name} show what was just put through another, in"
                              f" {middle * 1000:.0f} ms (median), {max(took, default=0) * 1000:.0f} ms at most")
    for sentence in wrong[:5]:
        note(sentence)
