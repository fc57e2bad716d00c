//! What tutorials show of volumes: a database that outlives its container, and containers that share their data.

use crate::support::binary::Kiln;
use crate::tutorials::{shop, wait_for};

/// Asks the database in a container, once it answers.
fn ask(kiln: &Kiln, container: &str, sql: &str) -> String {
    let ping = ["exec", container, "mariadb-admin", "ping"];
    wait_for(|| kiln.run(&ping).out, |said| said == "mysqld is alive\n");
    kiln.ok(&["exec", container, "mariadb", "-N", "-e", sql])
}

#[test]
fn a_mariadb_on_a_named_volume_survives_the_removal_of_its_container() {
    let Some(shop) = shop("a_mariadb_on_a_named_volume_survives_the_removal_of_its_container") else {
        return;
    };
    shop.mariadb();
    let kiln = &shop.kiln;
    let start = |name: &str, volume: &str| {
        let bind = format!("{volume}:/var/lib/mysql");
        kiln.ok(&["run", "-d", "--name", name, "-v", &bind, "mariadb"]);
    };
    start("mysql01", "mysql-data");
    let made =
        "create database shop; create table shop.orders (what text); insert into shop.orders values ('tea');";
    ask(kiln, "mysql01", made);
    // A snapshot of the running database is one that a database can start from.
    kiln.ok(&["volume", "clone", "mysql-data", "mysql-copy"]);
    ask(kiln, "mysql01", "insert into shop.orders values ('milk');");
    kiln.ok(&["stop", "mysql01"]);
    kiln.ok(&["rm", "-v", "mysql01"]);
    assert!(kiln.ok(&["volume", "ls", "-q"]).lines().any(|name| name == "mysql-data"));
    start("mysql02", "mysql-data");
    assert_eq!(ask(kiln, "mysql02", "select what from shop.orders order by what desc"), "tea\nmilk\n");
    start("mysql03", "mysql-copy");
    assert_eq!(ask(kiln, "mysql03", "select what from shop.orders"), "tea\n");
    kiln.run(&["volume", "rm", "mysql-data"]).fails_with(&["in use by container `mysql02`"]);
    kiln.ok(&["rm", "-f", "-v", "mysql02", "mysql03"]);
    assert_eq!(kiln.ok(&["volume", "rm", "mysql-data", "mysql-copy"]), "mysql-data\nmysql-copy\n");
}

#[test]
fn two_containers_share_the_volumes_of_a_dockerfile() {
    let Some(shop) = shop("two_containers_share_the_volumes_of_a_dockerfile") else { return };
    let kiln = &shop.kiln;
    let file = "FROM debian:bookworm\nVOLUME [\"volume01\",\"volume02\"]\nCMD [\"sleep\", \"1000\"]\n";
    let context = kiln.context(&[("Dockerfile", file)]);
    kiln.ok(&["build", "-t", "shared", context.to_str().unwrap()]);
    kiln.ok(&["run", "-d", "--name", "docker01", "shared"]);
    kiln.ok(&["run", "-d", "--name", "docker02", "--volumes-from", "docker01", "shared"]);
    kiln.ok(&["exec", "docker02", "sh", "-c", "echo two > /volume01/docker02"]);
    assert_eq!(kiln.ok(&["exec", "docker01", "cat", "/volume01/docker02"]), "two\n");
    kiln.ok(&["run", "-d", "--name", "docker03", "--volumes-from", "docker01", "shared"]);
    let volumes = |name: &str| {
        kiln.ok(&["inspect", "-f", "{{range .Mounts}}{{.Name}} {{.Destination}}\n{{end}}", name])
    };
    let own = volumes("docker01");
    let names: Vec<&str> = own.split_whitespace().step_by(2).collect();
    assert!(names.len() == 2 && names.iter().all(|name| name.len() == 64), "{own}");
    assert_eq!((volumes("docker02"), volumes("docker03")), (own.clone(), own.clone()));
    kiln.ok(&["rm", "-f", "-v", "docker01"]);
    assert_eq!(
        kiln.ok(&["exec", "docker03", "cat", "/volume01/docker02"]),
        "two\n",
        "the data outlives the first one"
    );
    kiln.ok(&["rm", "-f", "-v", "docker02", "docker03"]);
    let left = kiln.ok(&["volume", "ls", "-q"]);
    assert!(names.iter().all(|name| !left.contains(name)), "the last one takes them along: {left}");

    kiln.ok(&["run", "-d", "--rm", "--name", "docker04", "shared"]);
    let own = volumes("docker04");
    let names: Vec<&str> = own.split_whitespace().step_by(2).collect();
    let listed = || kiln.ok(&["volume", "ls", "-q"]);
    assert!(names.len() == 2 && names.iter().all(|name| listed().contains(name)), "{own}");
    kiln.ok(&["stop", "-t", "0", "docker04"]);
    wait_for(listed, |left| names.iter().all(|name| !left.contains(name)));
}
