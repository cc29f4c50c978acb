"""Every public name of the data ring can be had; what it loads is seen by tests/test_rings.py."""

import gatelab.data


def test_every_public_name_can_be_had():
    assert all(getattr(gatelab.data, name) is not None for name in gatelab.data.__all__)
    assert dir(gatelab.data) == sorted(gatelab.data.__all__)
