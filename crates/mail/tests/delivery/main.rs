//! The app on real engines, with gateways and HTTP before them and the stand-in behind them: what a browser sees.

mod browser;
mod events;
mod inbox;
mod pushes;
mod scene;
mod session;
mod streams;
