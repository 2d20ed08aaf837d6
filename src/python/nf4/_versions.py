"""The versions of other packages that the plug-in was tried with: the oldest and the newest. Data alone, so that a shell can
read it by runpy without importing the package."""

TRIED = {
    "torch": ("2.4.1", "2.15.0"),
    "transformers": ("4.51.3", "5.24.0"),
    "bitsandbytes": ("0.45.0", "0.50.2"),
}
