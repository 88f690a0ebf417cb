//! OAuth and the Gmail API, asked of the stand-in.

mod mail;
mod scene;
mod sign_in;
mod tokens;
mod trouble;
