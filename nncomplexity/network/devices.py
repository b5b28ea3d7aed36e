"""The devices that PyTorch has on this machine."""

import torch


def devices_here() -> list[str]:
    """The names of the devices, as for `--device`, each with a description.

    >>> devices_here()[0]
    'cpu (... thread...)'
    """
    found = [f"cpu ({torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''})"]
    for index in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(index)
        found.append(f"cuda:{index} ({about.name}, {about.total_memory / 2**30:.0f} GiB)")
    return found + (["mps"] if torch.backends.mps.is_available() else [])
