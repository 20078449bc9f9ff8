//! pitaya-core
