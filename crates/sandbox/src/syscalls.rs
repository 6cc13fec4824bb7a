//! Which system calls the code may not make, as a program for the kernel (seccomp).
//!
//! A list of what is denied, not of what is allowed: the namespaces already hold the code, and Python, Node and what
//! models write with them use most of the rest. What is here reaches the kernel's most attacked parts, undoes a
//! namespace, or reaches outside one. Denied calls fail with EPERM; clone3 fails with ENOSYS, because its flags are
//! in memory where no filter can look, and then the C library uses clone.

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use std::collections::BTreeMap;

/// Numbers that are the same on every architecture, newer than the C library's list.
const SYS_OPEN_TREE_ATTR: i64 = 467;
const SYS_PROCESS_MADVISE: i64 = 440;
const SYS_LISTMOUNT: i64 = 458;
const SYS_STATMOUNT: i64 = 457;

/// Calls that x86-64 numbers above this are the x32 variants, which would pass a filter that lists plain numbers.
#[cfg(target_arch = "x86_64")]
const X32_CALLS: u32 = 0x4000_0000;

const DENIED: &[i64] = &[
    // mounts and roots
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    SYS_LISTMOUNT,
    SYS_STATMOUNT,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_quotactl,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // namespaces
    libc::SYS_unshare,
    libc::SYS_setns,
    // other processes
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    SYS_PROCESS_MADVISE,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // programs and modules in the kernel
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    // large surfaces that code like this has no need of
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_memfd_secret,
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
    libc::SYS_lookup_dcookie,
    // the machine
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_syslog,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
];

const NAMESPACE_FLAGS: &[i32] = &[
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWNS,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWCGROUP,
];

/// A VM's host answers on vsock whatever the network namespace says, so only families that a namespace holds remain.
const SOCKET_FAMILIES: &[i32] = &[libc::AF_UNIX, libc::AF_INET, libc::AF_INET6];

/// The program, as the bytes that bubblewrap reads.
pub(crate) fn program() -> Result<Vec<u8>, seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let mut with_flags = Vec::new();
    for flag in NAMESPACE_FLAGS {
        let flag = bits(*flag);
        with_flags.push(SeccompRule::new(vec![condition(0, SeccompCmpOp::MaskedEq(flag), flag)?])?);
    }
    rules.insert(libc::SYS_clone, with_flags);
    // Writing into a terminal's input would type for whoever sits there.
    let mut terminal = Vec::new();
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        terminal.push(SeccompRule::new(vec![condition(1, SeccompCmpOp::Eq, request)?])?);
    }
    rules.insert(libc::SYS_ioctl, terminal);
    let mut other_family = Vec::new();
    for family in SOCKET_FAMILIES {
        other_family.push(condition(0, SeccompCmpOp::Ne, bits(*family))?);
    }
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(other_family)?]);
    // Asking which personality is in force is fine (0xffff_ffff), and so is the ordinary one (0).
    let unusual = vec![condition(0, SeccompCmpOp::Ne, 0)?, condition(0, SeccompCmpOp::Ne, 0xffff_ffff)?];
    rules.insert(libc::SYS_personality, vec![SeccompRule::new(unusual)?]);

    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter: BpfProgram =
        SeccompFilter::new(rules, SeccompAction::Allow, denied, architecture)?.try_into()?;
    let whole = absent_calls().into_iter().chain(filter);
    Ok(whole.flat_map(|instruction| instruction_bytes(&instruction)).collect())
}

/// Instructions that come first and answer ENOSYS. seccompiler has one action per filter, and a second filter would
/// cost every call another pass.
fn absent_calls() -> Vec<sock_filter> {
    const LOAD_CALL_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let absent = u32::from(SeccompAction::Errno(libc::ENOSYS.unsigned_abs()));
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let mut instructions = vec![
        sock_filter { code: LOAD_CALL_NUMBER, jt: 0, jf: 0, k: 0 },
        sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: clone3 },
        sock_filter { code: RETURN, jt: 0, jf: 0, k: absent },
    ];
    #[cfg(target_arch = "x86_64")]
    {
        const JUMP_IF_AT_LEAST: u16 = 0x35;
        instructions.push(sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: X32_CALLS });
        instructions.push(sock_filter { code: RETURN, jt: 0, jf: 0, k: absent });
    }
    instructions
}

/// The kernel's `struct sock_filter`: 8 bytes in the machine's order.
fn instruction_bytes(instruction: &sock_filter) -> [u8; 8] {
    let [code_low, code_high] = instruction.code.to_ne_bytes();
    let [first, second, third, fourth] = instruction.k.to_ne_bytes();
    [code_low, code_high, instruction.jt, instruction.jf, first, second, third, fourth]
}

/// Only the low half of a register counts for these arguments; the kernel ignores the rest, and so must the filter.
fn condition(
    argument: u8,
    operator: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

fn bits(flag: i32) -> u64 {
    u64::from(flag.cast_unsigned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_whole_instructions_that_a_kernel_takes() {
        const INSTRUCTIONS_MAX: usize = 4096;
        let program = program().unwrap();
        assert_eq!(program.len() % 8, 0);
        assert!(program.len() / 8 < INSTRUCTIONS_MAX);
        let last = program.last_chunk::<8>().unwrap();
        assert_eq!(last[..2], 6_u16.to_ne_bytes(), "it ends with a return");
    }
}
