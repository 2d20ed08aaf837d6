"""The versions that the plug-in was tried with, the oldest and the newest of each."""

TRIED = {
    "torch": ("2.4.1", "2.15.0"),
    "transformers": ("4.51.3", "5.24.0"),
    "bitsandbytes": ("0.45.0", "0.50.2"),
}
