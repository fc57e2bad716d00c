//! The tutorials of an application that keeps its list in a database container, and of containers on several networks.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::ports::{addresses, own_address, says};
use crate::support::binary::Kiln;
use crate::tutorials::{Shop, port, shop, wait_for};

/// A list of things to do: GET gives it, POST adds a line.
const APP: &str = r#"
import http.server, os, pymysql

class Todo(http.server.BaseHTTPRequestHandler):
    def ask(self, sql, *values):
        place = {key: os.environ["MYSQL_" + key.upper()] for key in ("host", "user", "password", "database")}
        with pymysql.connect(**place, connect_timeout=5, autocommit=True) as database:
            with database.cursor() as cursor:
                cursor.execute("create table if not exists items (number serial, what text)")
                cursor.execute(sql, values)
                return cursor.fetchall()

    def answer(self, sql, *values):
        try:
            status, text = 200, "".join(what + "\n" for what, in self.ask(sql, *values))
        except pymysql.Error as error:
            status, text = 503, f"{error}\n"
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def do_GET(self):
        self.answer("select what from items order by number")

    def do_POST(self):
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.answer("insert into items (what) values (%s)", text)

http.server.ThreadingHTTPServer(("", 3000), Todo).serve_forever()
"#;

/// Programs to serve, to ask and to look around with.
fn tools(shop: &Shop) {
    shop.image("tools", "python3 python3-pymysql curl dnsutils iproute2 iputils-ping", "");
}

/// Sends a request to a server; its whole answer, or why there is none.
fn http(at: SocketAddr, method: &str, body: &str) -> String {
    let exchange = || {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(10))?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let head = format!("{method} / HTTP/1.0\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer)
    };
    exchange().unwrap_or_else(|error: std::io::Error| error.to_string())
}

fn address(kiln: &Kiln, container: &str, network: &str) -> String {
    let format = format!("{{{{(index .NetworkSettings.Networks \"{network}\").IPAddress}}}}");
    kiln.ok(&["inspect", "-f", &format, container]).trim_end().to_owned()
}

#[test]
fn an_application_finds_its_database_by_name_and_finds_the_next_one_too() {
    let name = "an_application_finds_its_database_by_name_and_finds_the_next_one_too";
    let Some(shop) = shop(name) else { return };
    shop.mariadb();
    tools(&shop);
    let kiln = &shop.kiln;
    shop.network("todo-app", 70);
    let database = |name: &str| {
        let places = ["--network", "todo-app", "--network-alias", "mysql", "-v", "todo-data:/var/lib/mysql"];
        kiln.ok(&[&["run", "-d", "--name", name], &places[..], &["mariadb"]].concat());
    };
    database("db1");
    let first = address(kiln, "db1", "todo-app");
    let dig = || kiln.ok(&["run", "--rm", "--network", "todo-app", "tools", "dig", "+short", "mysql"]);
    assert_eq!(dig(), format!("{first}\n"));

    let folder = kiln.context(&[("app.py", APP)]);
    let port = port(3000);
    let (publish, bind) = (format!("127.0.0.1:{port}:3000"), format!("{}:/app", folder.display()));
    let words = ["run", "-dp", &publish, "--name", "app", "-w", "/app", "-v", &bind, "--network", "todo-app"];
    let settings = ["MYSQL_HOST=mysql", "MYSQL_USER=app", "MYSQL_PASSWORD=secret", "MYSQL_DATABASE=todos"];
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["-e", setting]).collect();
    kiln.ok(&[&words[..], &settings, &["tools", "python3", "app.py"]].concat());
    let app = SocketAddr::from(([127, 0, 0, 1], port));
    let lists = |list: &str| {
        let good = format!("\r\n\r\n{list}");
        wait_for(|| http(app, "GET", ""), |said| said.contains(" 200 OK\r\n") && said.ends_with(&good));
    };
    lists("");
    for what in ["make tea", "drink it"] {
        assert!(http(app, "POST", what).contains(" 200 OK\r\n"));
    }
    lists("make tea\ndrink it\n");
    let elsewhere = SocketAddr::from((own_address(), port));
    assert!(TcpStream::connect(elsewhere).is_err(), "published on loopback only");
    let asked =
        kiln.ok(&["run", "--rm", "--network", "todo-app", "tools", "curl", "-sS", "http://app:3000/"]);
    assert_eq!(asked, "make tea\ndrink it\n");

    kiln.ok(&["rm", "-f", "db1"]);
    assert!(http(app, "GET", "").contains(" 503 "), "{}", http(app, "GET", ""));
    let squat = ["run", "-d", "--name", "squatter", "--network", "todo-app", "--ip", &first];
    kiln.ok(&[&squat[..], &["tools", "sleep", "1000"]].concat());
    database("db2");
    let second = address(kiln, "db2", "todo-app");
    assert_ne!(first, second);
    assert_eq!(dig(), format!("{second}\n"));
    lists("make tea\ndrink it\n");
    kiln.ok(&["rm", "-f", "-v", "app", "db2", "squatter"]);
    kiln.ok(&["network", "rm", "todo-app"]);
    kiln.ok(&["volume", "rm", "todo-data"]);
}

#[test]
fn a_container_is_reached_from_its_own_networks_only() {
    let Some(shop) = shop("a_container_is_reached_from_its_own_networks_only") else { return };
    tools(&shop);
    let kiln = &shop.kiln;
    let second = shop.network("mynet", 90);
    let folder = kiln.context(&[("index.html", "tomcat\n")]);
    let bind = format!("{}:/srv:ro", folder.display());
    let serve = |name: &str, options: &[&str]| {
        let words = ["run", "-d", "-P", "--expose", "8080", "--name", name, "-v", &bind, "-w", "/srv"];
        kiln.ok(&[&words, options, &["tools", "python3", "-m", "http.server", "8080"]].concat());
        addresses(kiln, name, "8080").into_iter().for_each(|at| says(at, "tomcat\n"));
    };
    serve("tomcat01", &[]);
    serve("tomcat02", &[]);
    serve("tomcat-net-01", &["--net", "mynet"]);
    serve("tomcat-net-02", &["--net", "mynet"]);
    let ping = |from: &str, to: &str| kiln.run(&["exec", from, "ping", "-c", "1", "-W", "2", to]);
    let curl = |from: &str, to: &str| {
        kiln.run(&["exec", from, "curl", "-sS", "--max-time", "5", &format!("http://{to}:8080/")])
    };
    assert_eq!(ping("tomcat-net-01", "tomcat-net-02").code, 0);
    assert_eq!(curl("tomcat-net-01", "tomcat-net-02").out, "tomcat\n");
    let inside = address(kiln, "tomcat-net-01", "mynet");
    let apart = |from: &str| {
        assert!(ping(from, "tomcat-net-01").error.contains("Name or service not known"));
        assert_ne!(ping(from, &inside).code, 0);
        assert_ne!(curl(from, &inside).code, 0);
    };
    apart("tomcat01");
    apart("tomcat02");

    kiln.ok(&["network", "connect", "mynet", "tomcat01"]);
    let links = kiln.ok(&["exec", "tomcat01", "ip", "-brief", "-4", "address"]);
    let eth1 = links.lines().find(|line| line.starts_with("eth1@")).expect("a second interface");
    assert!(links.contains("\neth0@") && eth1.contains(&format!(" 172.{second}.0.")), "{links}");
    assert_eq!(ping("tomcat01", "tomcat-net-01").code, 0);
    assert_eq!(ping("tomcat-net-01", "tomcat01").code, 0);
    assert_eq!(curl("tomcat01", "tomcat-net-01").out, "tomcat\n");
    assert_eq!(curl("tomcat01", &address(kiln, "tomcat02", "bridge")).out, "tomcat\n", "and the first one");
    apart("tomcat02");

    serve("tomcat03", &["--link", "tomcat02:upstream"]);
    assert_eq!(curl("tomcat03", "upstream").out, "tomcat\n");
    let hosts = kiln.ok(&["exec", "tomcat03", "cat", "/etc/hosts"]);
    assert!(hosts.contains(&format!("{}\tupstream", address(kiln, "tomcat02", "bridge"))), "{hosts}");
    assert!(ping("tomcat02", "tomcat03").error.contains("Name or service not known"), "one way only");

    kiln.ok(&["network", "disconnect", "mynet", "tomcat01"]);
    apart("tomcat01");
    kiln.ok(&["rm", "-f", "tomcat01", "tomcat02", "tomcat03", "tomcat-net-01", "tomcat-net-02"]);
    kiln.ok(&["network", "rm", "mynet"]);
}
