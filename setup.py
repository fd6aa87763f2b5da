"""What setup.cfg cannot say: folders of the checkout that go into the wheel."""

import setuptools

setuptools.setup(
    packages=[
        *setuptools.find_packages(include=["keras_munet", "keras_munet.*"]),
        "keras_munet.launch",
        "keras_munet.configs",
    ],
    package_dir={
        "keras_munet.launch": "launch",
        "keras_munet.configs": "configs",
    },
)
