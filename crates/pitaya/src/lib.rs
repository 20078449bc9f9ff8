//! pitaya
