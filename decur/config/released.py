"""List the files that the authors released: their names, checksums and content.

Names and checksums come from the web pages of the files; the files were not downloaded for this.
"""

from dataclasses import dataclass, field

from decur.config.architectures import ARCHITECTURES

HOST = "https://huggingface.co/wangyi111/DeCUR/resolve/main"
LICENCE = "cc-by-4.0"

RELEASED_FORMAT = "released"
"""Name of the format of the joint files, as in the registry of architectures and `--format`."""


@dataclass(frozen=True)
class Scenario:
    """The training of the released files of a pair of modalities.

    `presets` maps our modalities, first branch first, to their augmentation presets. `chans` is the
    number of input channels of each first convolution. Modalities in `reversed` were read in the
    order blue, green, red. For modalities in `repeated`, one band was repeated in all channels.
    """

    dataset: str
    presets: dict[str, str]
    chans: tuple[int, int]
    reversed: frozenset[str] = field(default_factory=frozenset)
    repeated: frozenset[str] = field(default_factory=frozenset)


RELEASED_PAIRS = {
    "sar-optical": Scenario("ssl4eo-s12", {"sar": "sar", "optical": "optical"}, (2, 13)),
    "rgb-dem": Scenario(
        "geonrw",
        {"rgb": "rgb", "dem": "dem"},
        (3, 3),
        reversed=frozenset({"rgb"}),
        repeated=frozenset({"dem"}),
    ),
    "rgb-depth": Scenario(
        "sun-rgbd",
        {"rgb": "rgb-indoor", "hha": "hha"},
        (3, 3),
        reversed=frozenset({"rgb", "hha"}),
    ),
}


@dataclass(frozen=True)
class Released:
    """One released file; `modality` is None for a joint file with both backbones.

    `sha256` may be incomplete (only the first digits) or empty. `size` is in bytes, or None if the
    web page of the file gives only a rounded size.
    """

    name: str
    arch: str
    scenario: str
    modality: str | None = None
    sha256: str = ""
    size: int | None = None

    @property
    def url(self) -> str:
        """Return the URL of the file."""
        return f"{HOST}/{self.name}"

    @property
    def standardised(self) -> bool:
        """Return whether optical images were scaled by the mean and deviation of each band.

        This holds for the files of the later version. For ResNet-50 without deformable attention,
        the optical images were divided by 10,000.
        """
        arch = ARCHITECTURES[self.arch]
        later = arch.family == "vit" or arch.attention
        return later and self.scenario == "sar-optical"


OPTICAL_MEAN = (
    *(1605.575, 1390.782, 1314.873, 1363.524, 1549.444, 2091.749, 2371.717, 2299.905, 2560.295),
    *(830.066, 22.104, 2177.072, 1524.065),
)
"""Means of the Sentinel-2 bands (reflectance times 10,000), from the code of the later version."""
OPTICAL_STD = (
    *(786.787, 850.348, 875.065, 1138.850, 1122.178, 1161.592, 1274.392, 1248.429, 1345.527),
    *(577.316, 51.154, 1336.099, 1136.538),
)

# fmt: off
RELEASED = (
    Released("rn50_ssl4eo-s12_s1_s2c_decur_ep100.pth", "resnet50", "sar-optical", None,
             "406e9015424d024c3ab1d2e4574b5d3a362f1af1bdecd2f106a0b4bf2cc79920", 1_585_527_711),
    Released("rn50_ssl4eo-s12_joint_decur_ep100.pth", "resnet50", "sar-optical"),
    Released("rn50_ssl4eo-s12_sar_decur_ep100.pth", "resnet50", "sar-optical", "sar",
             "f0e69ba2dfecef0e16b42604358f58f84b9c80a5e32b9935dfa70b58faef7a0c"),
    Released("rn50_ssl4eo-s12_ms_decur_ep100.pth", "resnet50", "sar-optical", "optical",
             "fc6b09ff"),
    Released("rn50_rda_ssl4eo-s12_joint_decur_ep100.pth", "resnet50_rda", "sar-optical", None,
             "8313b4d5d2fbaf6e03e260a167a0f1f7d3681c02c8c4ddce86548770e3d402f5"),
    Released("rn50_rda_ssl4eo-s12_sar_decur_ep100.pth", "resnet50_rda", "sar-optical", "sar",
             "3c90ee4d444fb9c15e323c318b9512737995deb19143f83a79b8d392f96e14c2"),
    Released("rn50_rda_ssl4eo-s12_ms_decur_ep100.pth", "resnet50_rda", "sar-optical", "optical",
             "6779eefc627b1968ee63bd2e1b646a794ec30faa2606e0a2ef3a0229abc894df"),
    Released("vits16_ssl4eo-s12_joint_decur_ep100.pth", "vit_s16_token", "sar-optical"),
    Released("vits16_ssl4eo-s12_sar_decur_ep100.pth", "vit_s16_token", "sar-optical", "sar",
             "a32d6347c83f2b1ee94bc4efed208fa265de787016b0a67318f03dc08ca00d56"),
    Released("vits16_ssl4eo-s12_ms_decur_ep100.pth", "vit_s16_token", "sar-optical", "optical",
             "99aa5b9083e0be9df0e6800b3f908bfbeb0ca2beb2e56b6d4ba5053357b0cb94"),
    Released("rn50_geonrw_rgb_dem_decur_ep100.pth", "resnet50", "rgb-dem", None,
             "2f8a5544dc8390106f1aca2316b146e00d7ea7a7ca3eb2b6818d8cea04cd3ad0", 1_585_301_919),
    Released("rn50_geonrw_joint_decur_ep100.pth", "resnet50", "rgb-dem", None,
             "23c9a5c535cdf651cf6ea91189184574d35833e9872fa772da235f4848b340c8", 793_034_653),
    Released("rn50_geonrw_rgb_decur_ep100.pth", "resnet50", "rgb-dem", "rgb",
             "0d985eaf7da9602df5db33d62fdc41326e3e924b33a9c1d802afca56ce28e1ba", 94_345_157),
    Released("rn50_geonrw_dem_decur_ep100.pth", "resnet50", "rgb-dem", "dem",
             "36b942d156d9d9e0c41abd7ee83b97750e6710e3d1ba919bcb5793c45196bcc8", 94_345_157),
    Released("rn50_rda_geonrw_joint_decur_ep100.pth", "resnet50_rda", "rgb-dem", None,
             "ef6f1db2e081254ccc578b172f6a307f991549cef5c1a80129dd2e8b9a433233"),
    Released("rn50_rda_geonrw_rgb_decur_ep100.pth", "resnet50_rda", "rgb-dem", "rgb",
             "416960d8623dc2bf2ea6b64adc6f66ae95192fa1ed0371469577a3f3cf56bab6"),
    Released("rn50_rda_geonrw_dem_decur_ep100.pth", "resnet50_rda", "rgb-dem", "dem",
             "fdcd42f517894fa23813f533d3769fd98b442721345eb40e48bbfadbbed91e36"),
    Released("vits16_geonrw_joint_decur_ep100.pth", "vit_s16_token", "rgb-dem"),
    Released("vits16_geonrw_rgb_decur_ep100.pth", "vit_s16_token", "rgb-dem", "rgb"),
    Released("vits16_geonrw_dem_decur_ep100.pth", "vit_s16_token", "rgb-dem", "dem"),
    Released("mitb2_sunrgbd_rgb_hha_decur_ep200.pth", "mit_b2", "rgb-depth", None,
             "0dcd7446e4a98e101ee6c702c7d3d20fbefe9e520a8c1c560172ff090b9b2591", 2_419_122_151),
    Released("mitb2_sunrgbd_backbone_rgb_decur_ep200.pth", "mit_b2", "rgb-depth", "rgb",
             "f1c3b0f055b481bc1e46c2ce0e5ec1bd5f9bf351ce19230408cebf7fefce06e4", 96_883_433),
    Released("mitb2_sunrgbd_backbone_hha_decur_ep200.pth", "mit_b2", "rgb-depth", "hha",
             "dc97fb4310143dfec88f764795f9a8ff09606f8ce53408509baa627c1deacf84", 96_883_433),
    Released("mitb5_sunrgbd_rgb_hha_decur_ep200.pth", "mit_b5", "rgb-depth", None,
             "f2f768875f7b71c45a35416c55e3cd180f5e783762f0c5d9246ce1b0e300a9fd", 3_794_470_215),
    Released("mitb5_sunrgbd_backbone_rgb_decur_ep200.pth", "mit_b5", "rgb-depth", "rgb",
             "a55a089bf469929aec4f21302926b6dfc9166984ea0fb8c2c43212a9eddc7d85", 326_087_293),
    Released("mitb5_sunrgbd_backbone_hha_decur_ep200.pth", "mit_b5", "rgb-depth", "hha",
             "e016530f8142766877389f5b3de18046c984591df21be89a6fa5d9760fb42f51", 326_087_293),
)
# fmt: on
BY_NAME = {entry.name: entry for entry in RELEASED}


def of_checksum(sha256: str) -> Released | None:
    """Return the released file with this SHA-256 (hexadecimal), independent of its name."""
    known = (entry for entry in RELEASED if entry.sha256)
    return next((entry for entry in known if sha256.startswith(entry.sha256)), None)
