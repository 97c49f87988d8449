//! `[data] format`

use crate::data::item::ItemKind;

crate::choice! {
    /// The format of a data set. The first three are our own jsonl files, by the kind of their rows.
    pub enum Format {
        Pairs = "pairs",
        Lists = "lists",
        Labels = "labels",
        PickAPic = "pickapic",
        /// Parquet with two columns of images: chosen and rejected, or winner and loser.
        ParquetPairs = "parquet_pairs",
        Hpdv2 = "hpdv2",
        Hpdv3 = "hpdv3",
        ImageReward = "imagereward",
        WebDataset = "webdataset",
        /// Images of equal names in a folder of winners and one of losers, or side by side.
        Folders = "folders",
        ImageFolder = "imagefolder",
    }
}

impl Format {
    /// Our own files with rows of this kind.
    pub fn of_kind(kind: ItemKind) -> Self {
        match kind {
            ItemKind::Pairs => Self::Pairs,
            ItemKind::Lists => Self::Lists,
            ItemKind::Labels => Self::Labels,
        }
    }

    /// The kind of the rows of our own files.
    pub fn kind(self) -> Option<ItemKind> {
        match self {
            Self::Pairs => Some(ItemKind::Pairs),
            Self::Lists => Some(ItemKind::Lists),
            Self::Labels => Some(ItemKind::Labels),
            Self::PickAPic
            | Self::ParquetPairs
            | Self::Hpdv2
            | Self::Hpdv3
            | Self::ImageReward
            | Self::WebDataset
            | Self::Folders
            | Self::ImageFolder => None,
        }
    }
}
