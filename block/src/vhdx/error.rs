//! Why a `.vhdx` file cannot be used.

/// Why a `.vhdx` file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VhdxError {
    /// This build cannot read them yet.
    #[error(".vhdx files are not supported yet; convert it (qemu-img convert -O raw)")]
    Unsupported,
}
