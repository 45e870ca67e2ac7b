//! Users and groups by an image's own files, or by number.

use crate::plan::IdentityPlan;

/// A line of a passwd file.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).unwrap_or("/");
        Some(Account { name, uid, gid, home })
    })
}

/// Name, number and members of each group.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some((name, gid, fields.next().unwrap_or_default()))
    })
}

/// `user`, `uid`, `user:group` or `uid:gid` in the words of Dockerfiles.
pub(super) fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<IdentityPlan, String> {
    let (user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let number = user.parse::<u32>().ok();
    let account = accounts(passwd).find(|account| account.name == user || Some(account.uid) == number);
    let (uid, gid) = match (&account, number) {
        (Some(account), _) => (account.uid, account.gid),
        (None, Some(uid)) => (uid, 0),
        (None, None) => {
            return Err(format!(
                "the image has no user `{user}` in its /etc/passwd: name one that it has, or give a number"
            ));
        }
    };
    let named = account.as_ref().map(|account| account.name);
    let is_member = |members: &str| members.split(',').any(|member| Some(member) == named);
    let mut all: Vec<u32> = groups(group)
        .filter(|(_, _, members)| is_member(members))
        .map(|(_, gid, _)| gid)
        .collect();
    let gid = match wanted_group {
        None | Some("") => gid,
        Some(name) => {
            let found = groups(group)
                .find(|(known, _, _)| *known == name)
                .map(|(_, gid, _)| gid);
            let gid = found.or_else(|| name.parse().ok());
            // A group that was asked for stands alone, as in Docker.
            all.clear();
            gid.ok_or_else(|| format!("the image has no group `{name}` in its /etc/group: name one that it has"))?
        }
    };
    if !all.contains(&gid) {
        all.insert(0, gid);
    }
    let home = account.map_or("/", |account| account.home);
    Ok(IdentityPlan {
        uid,
        gid,
        groups: all,
        home: if home.is_empty() { "/" } else { home }.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/srv/app:/bin/sh\nbroken\n2000:x:7:7:::\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root,app\nstaff:x:50:app\napp:x:1001:\n";

    fn numbers(wanted: &str) -> (u32, u32, Vec<u32>, String) {
        let found = resolve(wanted, PASSWD, GROUP).expect(wanted);
        (found.uid, found.gid, found.groups, found.home)
    }

    #[test]
    fn names_and_numbers_are_looked_up() {
        assert_eq!(numbers("app"), (1000, 1001, vec![1001, 10, 50], "/srv/app".to_owned()));
        assert_eq!(numbers("1000"), numbers("app"));
        assert_eq!(numbers("app:staff"), (1000, 50, vec![50], "/srv/app".to_owned()));
        assert_eq!(numbers("app:77"), (1000, 77, vec![77], "/srv/app".to_owned()));
        assert_eq!(numbers("4242"), (4242, 0, vec![0], "/".to_owned()));
        assert_eq!(numbers("0").3, "/root");
        assert_eq!(numbers("2000").0, 7, "a name of digits is a name");
        assert_eq!(resolve("0", "", "").expect("root").home, "/");
    }

    #[test]
    fn unknown_names_are_told() {
        let error = resolve("nobody", PASSWD, GROUP).expect_err("unknown");
        assert!(error.contains("no user `nobody`"), "{error}");
        let error = resolve("app:none", PASSWD, GROUP).expect_err("unknown");
        assert!(error.contains("no group `none`"), "{error}");
    }
}
