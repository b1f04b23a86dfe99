//! Deploys in, due evaluations, verdict rows and events out.
