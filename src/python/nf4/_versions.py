"""The oldest and the newest version of other packages that the plug-in was tried with. Data alone: a shell script can
read it by runpy without importing the package."""

TRIED = {
    "torch": ("2.4.1", "2.15.0"),
    "transformers": ("4.51.3", "5.24.0"),
    "bitsandbytes": ("0.45.0", "0.50.2"),
}

# The first transformers whose way of loading experts the plug-in knows. Before 5.0 they were matrices, which need no more
# than Linear4bit.
EXPERTS = "5.17.0"
