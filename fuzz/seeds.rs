//! Writes what each target begins with: `seeds FOLDER` makes a folder a target in it. Called by `scripts/fuzz.sh`.

use std::path::Path;

fn main() -> std::io::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "fuzz/seeds".to_owned());
    for (name, _) in assize::entry::DOORS {
        let own = Path::new(&folder).join(name);
        std::fs::create_dir_all(&own)?;
        for (n, body) in assize::bend::seeds(name).iter().enumerate() {
            std::fs::write(own.join(n.to_string()), body)?;
        }
    }
    Ok(())
}
