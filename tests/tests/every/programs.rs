//! Which drivers there are, and how each one's program is run.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use portcullis_tests::drivers::program::{self, Place, Report};
use portcullis_tests::process;
use portcullis_tests::scratch::{Scratch, repository, tools};

use super::place::{DOTTED, Way};
use super::tokio_postgres;

/// One driver.
pub(crate) struct Driver {
    /// As the manual's table calls it.
    pub(crate) name: &'static str,
    /// What its program is run by.
    by: By,
}

enum By {
    Python(&'static str),
    Node(&'static str),
    Php(&'static str),
    Ruby,
    Perl,
    Go,
    Java,
    Sqlx,
    /// In this very process.
    TokioPostgres,
}

/// All of them, in the order of the manual's table.
pub(crate) const DRIVERS: [Driver; 17] = [
    Driver {
        name: "psql",
        by: By::Python("psql_"),
    },
    Driver {
        name: "psycopg 3",
        by: By::Python("psycopg3"),
    },
    Driver {
        name: "psycopg 2",
        by: By::Python("psycopg2_"),
    },
    Driver {
        name: "asyncpg",
        by: By::Python("asyncpg_"),
    },
    Driver {
        name: "pg8000",
        by: By::Python("pg8000_"),
    },
    Driver {
        name: "SQLAlchemy",
        by: By::Python("alchemy"),
    },
    Driver {
        name: "node-postgres",
        by: By::Node("node_postgres"),
    },
    Driver {
        name: "Postgres.js",
        by: By::Node("postgres_js"),
    },
    Driver {
        name: "pgJDBC",
        by: By::Java,
    },
    Driver {
        name: "lib/pq",
        by: By::Go,
    },
    Driver {
        name: "tokio-postgres",
        by: By::TokioPostgres,
    },
    Driver {
        name: "SQLx",
        by: By::Sqlx,
    },
    Driver {
        name: "PHP pgsql",
        by: By::Php("pgsql"),
    },
    Driver {
        name: "PHP PDO",
        by: By::Php("pdo"),
    },
    Driver {
        name: "ruby-pg",
        by: By::Ruby,
    },
    Driver {
        name: "DBD::Pg",
        by: By::Perl,
    },
    Driver {
        name: "psqlODBC",
        by: By::Python("odbc"),
    },
];

impl Driver {
    /// The driver of that name.
    pub(crate) fn named(name: &str) -> &'static Self {
        let driver = DRIVERS.iter().find(|driver| driver.name == name);
        driver.unwrap_or_else(|| panic!("no driver {name}"))
    }

    /// A role of its own, so that drivers do not hear each other.
    pub(crate) fn role(&self) -> String {
        let plain = |it: char| {
            if it.is_ascii_alphanumeric() {
                it.to_ascii_lowercase()
            } else {
                '_'
            }
        };
        format!("of_{}", self.name.chars().map(plain).collect::<String>())
    }

    /// What this machine lacks to run it, if anything. What `make setup` puts into target/tools is
    /// not looked for: it must be there.
    pub(crate) fn missing(&self) -> Option<String> {
        let (program, probe): (&str, &[&str]) = match self.by {
            By::Python("odbc") => ("test", &["-e", ODBC_DRIVER]),
            By::Python(_) | By::Node(_) | By::Sqlx | By::TokioPostgres => return None,
            By::Php("pdo") => (
                "php",
                &["-r", "exit(extension_loaded('pdo_pgsql') ? 0 : 1);"],
            ),
            By::Php(_) => ("php", &["-r", "exit(extension_loaded('pgsql') ? 0 : 1);"]),
            By::Ruby => ("ruby", &["-rpg", "-e", "1"]),
            By::Perl => ("perl", &["-MDBD::Pg", "-e", "1"]),
            By::Go => (
                "sh",
                &[
                    "-c",
                    "command -v go && test -d /usr/share/gocode/src/github.com/lib/pq",
                ],
            ),
            By::Java => (
                "sh",
                &[
                    "-c",
                    "command -v javac && test -e /usr/share/java/postgresql.jar",
                ],
            ),
        };
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\"", "sh", program]).args(probe);
        let finished = process::run(&command, BUILD_LIMIT);
        (!finished.status.success())
            .then(|| format!("{} is not installed: `make setup`\n{finished}", self.name))
    }

    /// Runs its program.
    pub(crate) fn run(&self, way: Way, place: &Place) -> Report {
        let mut command = match self.by {
            By::TokioPostgres => return tokio_postgres::run(place),
            By::Python(name) => script(tools().join("venv/bin/python"), &format!("{name}.py")),
            By::Node(name) => {
                let mut node = script("node".into(), &format!("{name}.js"));
                node.env("NODE_PATH", tools().join("npm/node_modules"));
                node
            }
            By::Php(name) => script("php".into(), &format!("{name}.php")),
            By::Ruby => script("ruby".into(), "ruby_pg.rb"),
            By::Perl => script("perl".into(), "dbd_pg.pl"),
            By::Go => Command::new(lib_pq()),
            By::Sqlx => Command::new(sqlx()),
            By::Java => return java(way, place),
        };
        command.env("AT_ODBC_DRIVER", ODBC_DRIVER);
        program::run(command, place)
    }
}

const ODBC_DRIVER: &str = "/usr/lib/x86_64-linux-gnu/odbc/psqlodbcw.so";
/// A compiler that has never run here, beside others.
const BUILD_LIMIT: Duration = Duration::from_secs(300);

fn script(interpreter: PathBuf, file: &str) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(programs().join(file));
    command
}

fn programs() -> PathBuf {
    repository().join("tests/programs")
}

/// Where compiled programs go, and stay: what Go has built once it need not build again.
fn compiled() -> PathBuf {
    let folder = repository().join("target/tmp/programs");
    std::fs::create_dir_all(&folder).expect("target can be written");
    folder
}

fn lib_pq() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let program = compiled().join("lib_pq");
        let mut go = Command::new("go");
        go.arg("build")
            .arg("-o")
            .arg(&program)
            .arg(programs().join("lib_pq.go"));
        // Debian's packages, and nothing from elsewhere.
        go.env("GO111MODULE", "off")
            .env("GOPATH", "/usr/share/gocode")
            .env("GOFLAGS", "");
        go.env("GOCACHE", compiled().join("go-cache"));
        let _ = process::run(&go, BUILD_LIMIT).ok();
        program
    });
    built.clone()
}

/// Java names a server by SNI only if there is a dot in its name.
fn java(way: Way, place: &Place) -> Report {
    static BUILT: OnceLock<Scratch> = OnceLock::new();
    const JAR: &str = "/usr/share/java/postgresql.jar";
    let built = BUILT.get_or_init(|| {
        let classes = Scratch::new("java");
        let mut javac = Command::new("javac");
        javac
            .args(["-cp", JAR, "-d"])
            .arg(classes.path())
            .arg(programs().join("Jdbc.java"));
        let _ = process::run(&javac, BUILD_LIMIT).ok();
        classes
    });
    let mut place = place.clone();
    if way != Way::Direct {
        DOTTED.clone_into(&mut place.host);
    }
    let mut sh = Command::new("sh");
    sh.args(["-c", "exec java -Xshare:auto -XX:TieredStopAtLevel=1 -Djdk.net.hosts.file=\"$AT_HOSTS\" -cp \"$CLASSES\" Jdbc"]);
    sh.env("CLASSES", format!("{}:{JAR}", built.path().display()));
    program::run(sh, &place)
}

fn sqlx() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let mut build = Command::new(repository().join("tests/setup/sqlx.sh"));
        // What cargo tells a test would make it build everything anew, and `make setup` again.
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
                build.env_remove(&*name);
            }
        }
        let _ = process::run(&build, BUILD_LIMIT).ok();
        tools().join("sqlx/debug/portcullis-sqlx-program")
    });
    built.clone()
}
