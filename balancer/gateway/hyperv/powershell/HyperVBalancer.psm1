# Hyper-V Balancer: the functions it calls on a Hyper-V host.
#
# What they answer is written down once, in balancer/gateway/wire.py; docs/reference/powershell.md
# says what each reads, writes and needs. Windows PowerShell 5.1.
#
# One text serves two ways. Installed as a module, the manifest exports those functions and
# the rest stays private to the module. Sent by add_script to an ordinary endpoint, the text runs
# in the runspace's global scope (a script sent that way gets no scope of its own), so everything
# it defines lasts as long as the runspace. That is why no function says "global:": in a module it
# would escape the module, and a role capability could no longer export it. It is also why nothing
# here sets a script variable or a preference, which would leak into the whole runspace.
#
# House rules, kept by tests/unit/powershell: commands are module-qualified, because a constrained
# endpoint shadows some of them; every call into the platform stops on its first error; numbers
# and enums only, no localised text; VMs and groups are found by id, never by a name; no text is
# ever run as code. Large unsigned numbers are decimal, because 5.1 reads 0x80000000 as negative.

Microsoft.PowerShell.Core\Set-StrictMode -Version 3

# Loaded by name here, because a constrained session may have module auto-loading switched off.
# Hosts lack some of them (no cluster, no Network ATC), and that is no error.
Microsoft.PowerShell.Core\Import-Module -Name 'CimCmdlets', 'Hyper-V', 'FailoverClusters', 'NetworkATC' -ErrorAction SilentlyContinue

# ---- Small parts ---------------------------------------------------------------------------

function Get-LbModuleNumber {
    1
}

function ConvertTo-LbJson {
    param([object] $Answer)
    Microsoft.PowerShell.Utility\ConvertTo-Json -InputObject $Answer -Compress -Depth 8
}

function Test-LbCommand {
    param([string] $Name)
    $null -ne (Microsoft.PowerShell.Core\Get-Command -Name $Name -ErrorAction SilentlyContinue)
}

# A property that older Windows may not have.
function Get-LbValue {
    param([object] $From, [string] $Property)
    $found = $From.PSObject.Properties[$Property]
    if ($null -ne $found) {
        $found.Value
    }
}

# A value, or an explicit null: 5.1 writes the nothing that a silent function returns as {}.
function ConvertTo-LbNumber {
    param([object] $Value)
    if ($null -eq $Value) {
        return $null
    }
    [long] $Value
}

# HRESULTs arrive as signed or unsigned 32 bit numbers.
function ConvertTo-LbUnsigned {
    param([object] $Value)
    if ($null -eq $Value) {
        return $null
    }
    ([long] $Value) -band 4294967295
}

# The platform writes VM ids in either case, with and without braces.
function ConvertTo-LbId {
    param([object] $Text)
    $id = [guid]::Empty
    if ([guid]::TryParse([string] $Text, [ref] $id)) {
        $id.ToString()
    } else {
        ''
    }
}

function ConvertTo-LbUtc {
    param([datetime] $Time)
    $Time.ToUniversalTime().ToString('o', [System.Globalization.CultureInfo]::InvariantCulture)
}

function Add-LbPart {
    param([hashtable] $Groups, [string] $Key, [object] $Part)
    if (-not $Groups.ContainsKey($Key)) {
        $Groups[$Key] = [System.Collections.ArrayList]::new()
    }
    $null = $Groups[$Key].Add($Part)
}

function Select-LbPart {
    param([hashtable] $Groups, [string] $Key)
    if ($Groups.ContainsKey($Key)) {
        $Groups[$Key]
    }
}

# ---- Failures ------------------------------------------------------------------------------

# The first hexadecimal failure code in a message: the only thing ever read out of a text.
function Find-LbCode {
    param([string] $Text)
    $match = [regex]::Match($Text, '0x([89A-Fa-f][0-9A-Fa-f]{7})')
    if ($match.Success) {
        [long] [System.Convert]::ToUInt32($match.Groups[1].Value, 16)
    }
}

# Cluster cmdlets keep a Win32 code in an inner exception, Hyper-V's keep an HRESULT in the text,
# and .NET's own codes (0x8013xxxx) say nothing about the platform.
function Get-LbCode {
    param([System.Exception] $Failure)
    $causes = @(for ($cause = $Failure; $null -ne $cause; $cause = $cause.InnerException) { $cause })
    foreach ($cause in $causes) {
        if ($cause -is [System.ComponentModel.Win32Exception]) {
            $native = [long] $cause.NativeErrorCode
            if ($native -gt 0 -and $native -lt 65536) {
                return 2147942400 + $native
            }
            if ($native -ne 0) {
                return ConvertTo-LbUnsigned -Value $native
            }
        }
    }
    foreach ($cause in $causes) {
        $code = Find-LbCode -Text $cause.Message
        if ($null -ne $code) {
            return $code
        }
    }
    foreach ($cause in $causes) {
        $code = ConvertTo-LbUnsigned -Value $cause.HResult
        if ($code -ne 0 -and ($code -band 4294901760) -ne 2148728832) {
            return $code
        }
    }
    $null
}

function New-LbFault {
    param([System.Management.Automation.ErrorRecord] $Record)
    [pscustomobject] @{
        hresult = Get-LbCode -Failure $Record.Exception
        fqid = [string] $Record.FullyQualifiedErrorId
        category = [string] $Record.CategoryInfo.Category
        message = [string] $Record.Exception.Message
    }
}

# Our own refusals have stable ids; the message is for people.
function New-LbRefusal {
    param([string] $Id, [string] $Message)
    [pscustomobject] @{
        hresult = $null
        fqid = [string] $Id
        category = 'InvalidOperation'
        message = [string] $Message
    }
}

function New-LbSection {
    param([object] $Data)
    [pscustomobject] @{
        ok = $true
        data = $Data
        fault = $null
    }
}

function New-LbList {
    param([AllowEmptyCollection()] [object[]] $Rows)
    [pscustomobject] @{
        ok = $true
        data = [object[]] @($Rows)
        fault = $null
    }
}

function New-LbFailure {
    param([System.Management.Automation.ErrorRecord] $Record)
    [pscustomobject] @{
        ok = $false
        data = $null
        fault = New-LbFault -Record $Record
    }
}

function New-LbAct {
    param([bool] $Accepted, [bool] $Fenced, [object] $Fault)
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        accepted = $Accepted
        fenced = $Fenced
        fault = $Fault
    })
}

# ---- One host: its own parts ---------------------------------------------------------------

# The cluster service is there and was not left disabled by the feature's installation.
function Test-LbClusterNode {
    $service = CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_Service -Filter "Name = 'ClusSvc'" -Property 'Name', 'StartMode' -ErrorAction Stop
    $null -ne $service -and [string] $service.StartMode -ne 'Disabled'
}

function Read-LbOs {
    try {
        $system = CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_OperatingSystem -Property 'BuildNumber', 'FreePhysicalMemory', 'LastBootUpTime' -ErrorAction Stop
        $computer = CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_ComputerSystem -Property 'Domain' -ErrorAction Stop
        $processors = @(CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_Processor -Property 'Manufacturer' -ErrorAction Stop)
        New-LbSection -Data ([pscustomobject] @{
            build = [int] $system.BuildNumber
            domain = [string] $computer.Domain
            last_boot_utc = ConvertTo-LbUtc -Time $system.LastBootUpTime
            free_memory_bytes = [long] $system.FreePhysicalMemory * 1024
            cpu_vendor = [string] $processors[0].Manufacturer
            now_utc = ConvertTo-LbUtc -Time ([datetime]::UtcNow)
        })
    } catch {
        New-LbFailure -Record $_
    }
}

function Read-LbHostSettings {
    try {
        $settings = Hyper-V\Get-VMHost -ErrorAction Stop
        $nodes = @()
        if (-not $settings.NumaSpanningEnabled) {
            $nodes = @($settings.HostNumaStatus)
        }
        New-LbSection -Data ([pscustomobject] @{
            logical_processors = [int] $settings.LogicalProcessorCount
            memory_capacity_bytes = [long] $settings.MemoryCapacity
            migration_enabled = [bool] $settings.VirtualMachineMigrationEnabled
            migration_option = [int] $settings.VirtualMachineMigrationPerformanceOption
            migrations_max = [int] $settings.MaximumVirtualMachineMigrations
            storage_migrations_max = [int] $settings.MaximumStorageMigrations
            migration_authentication = [int] $settings.VirtualMachineMigrationAuthenticationType
            any_network = [bool] $settings.UseAnyNetworkForMigration
            numa_spanning = [bool] $settings.NumaSpanningEnabled
            numa_free_mib = [int[]] @(foreach ($node in $nodes) { [int] (Get-LbValue -From $node -Property 'MemoryAvailable') })
            vm_versions = [string[]] @(foreach ($version in (Get-LbValue -From $settings -Property 'SupportedVmVersions')) { [string] $version })
        })
    } catch {
        New-LbFailure -Record $_
    }
}

function Get-LbMigrationService {
    CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_VirtualSystemMigrationService -ErrorAction Stop
}

function Read-LbMigrationService {
    try {
        $service = Get-LbMigrationService
        New-LbSection -Data ([pscustomobject] @{
            active = [int] $service.ActiveVirtualSystemMigrationCount
            active_storage = [int] $service.ActiveStorageMigrationCount
            listeners = [string[]] @(foreach ($address in $service.MigrationServiceListenerIPAddressList) { [string] $address })
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# Averaged over the processors here, because whether _Total is an average or a sum depends on how
# the counter is read. Cooked counters need two samples: right after the provider started, all are
# zero, which no running hypervisor is, and which would make the host look empty.
function Get-LbRunTime {
    param([string] $ClassName)
    foreach ($attempt in 1, 2) {
        $sum = 0.0
        $count = 0
        $rows = @(CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName $ClassName -Property 'Name', 'PercentTotalRunTime' -ErrorAction Stop)
        foreach ($row in $rows) {
            if ([string] $row.Name -ne '_Total') {
                $sum += [double] $row.PercentTotalRunTime
                $count += 1
            }
        }
        if ($sum -gt 0) {
            break
        }
    }
    if ($count -eq 0) {
        throw 'LbNoCounters'
    }
    [pscustomobject] @{
        percent = [double] $sum / $count
        count = [int] $count
    }
}

function Read-LbCpu {
    try {
        $logical = Get-LbRunTime -ClassName 'Win32_PerfFormattedData_HvStats_HyperVHypervisorLogicalProcessor'
        $root = Get-LbRunTime -ClassName 'Win32_PerfFormattedData_HvStats_HyperVHypervisorRootVirtualProcessor'
        New-LbSection -Data ([pscustomobject] @{
            lp_run_percent = [double] $logical.percent
            lp_count = [int] $logical.count
            root_run_percent = [double] $root.percent
            root_count = [int] $root.count
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# Instances are called "<VM name>:Hv VP <number>", and a VM's name may hold anything, also that. A
# dictionary tells names apart to the letter, unlike a hashtable. It is enumerated by a method: of a
# dictionary with a VM called Keys in it, the property Keys would be that VM.
function Read-LbVps {
    try {
        $byName = [System.Collections.Generic.Dictionary[string, object]]::new()
        $processors = @(CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_PerfFormattedData_HvStats_HyperVHypervisorVirtualProcessor -Property 'Name', 'PercentTotalRunTime', 'CPUWaitTimePerDispatch', 'LogicalProcessorDispatchesPersec' -ErrorAction Stop)
        foreach ($processor in $processors) {
            $instance = [string] $processor.Name
            $end = $instance.LastIndexOf(':Hv VP ', [System.StringComparison]::Ordinal)
            if ($end -ge 0) {
                $name = $instance.Substring(0, $end)
                if (-not $byName.ContainsKey($name)) {
                    $byName[$name] = @{ run = 0.0; processors = 0; wait = 0.0 }
                }
                $sums = $byName[$name]
                $sums.run += [double] $processor.PercentTotalRunTime
                $sums.processors += 1
                # Nanoseconds a dispatch times dispatches a second; a whole second is 100 percent.
                $sums.wait += [double] $processor.CPUWaitTimePerDispatch * [double] $processor.LogicalProcessorDispatchesPersec / 1e7
            }
        }
        $rows = @(foreach ($pair in $byName.GetEnumerator()) {
            [pscustomobject] @{
                name = [string] $pair.Key
                run_percent = [double] $pair.Value.run
                count = [int] $pair.Value.processors
                wait_percent = [double] $pair.Value.wait
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

function Read-LbMemory {
    try {
        $balancers = @(CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_PerfFormattedData_BalancerStats_HyperVDynamicMemoryBalancer -Property 'Name', 'AvailableMemory', 'AveragePressure' -ErrorAction Stop)
        $total = @(foreach ($balancer in $balancers) { if ([string] $balancer.Name -eq '_Total') { $balancer } })
        $parts = @(foreach ($balancer in $balancers) { if ([string] $balancer.Name -ne '_Total') { $balancer } })
        if ($total.Count -gt 0) {
            $parts = $total
        }
        if ($parts.Count -eq 0) {
            throw 'LbNoCounters'
        }
        $available = [long] 0
        $pressure = 0.0
        foreach ($part in $parts) {
            $available += [long] $part.AvailableMemory
            $pressure += [double] $part.AveragePressure
        }
        New-LbSection -Data ([pscustomobject] @{
            available_bytes = [long] $available * 1048576
            average_pressure_percent = [double] $pressure / $parts.Count
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# ---- One host: its VMs ---------------------------------------------------------------------

# Parts of all VMs by VM id, from one bulk reading.
function Group-LbByVm {
    param([AllowEmptyCollection()] [object[]] $Parts)
    $groups = @{}
    foreach ($part in $Parts) {
        Add-LbPart -Groups $groups -Key ([string] $part.VMId) -Part $part
    }
    $groups
}

# What Get-VMSecurity returns does not say whose it is; the settings behind it do, in their id
# "Microsoft:<VM id>\...", and one query reads them for all VMs.
function Get-LbSecurity {
    $security = @{}
    if (Test-LbCommand -Name 'Get-VMSecurity') {
        $settings = @(CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_SecuritySettingData -Property 'InstanceID', 'TpmEnabled', 'ShieldingRequested' -ErrorAction Stop)
        foreach ($setting in $settings) {
            $match = [regex]::Match([string] $setting.InstanceID, '^Microsoft:([0-9A-Fa-f-]{36})')
            if ($match.Success) {
                $security[(ConvertTo-LbId -Text $match.Groups[1].Value)] = [pscustomobject] @{
                    tpm = [bool] $setting.TpmEnabled
                    shielded = [bool] $setting.ShieldingRequested
                }
            }
        }
    }
    $security
}

function Get-LbVmSecurity {
    param([hashtable] $Security, [object] $Machine)
    $id = [string] $Machine.Id
    if ($Security.ContainsKey($id)) {
        return $Security[$id]
    }
    $tpm = $false
    $shielded = $false
    if (Test-LbCommand -Name 'Get-VMSecurity') {
        # Never take a missing record for "no TPM": such a VM does not start elsewhere.
        $own = Hyper-V\Get-VMSecurity -VM $Machine -ErrorAction Stop
        $tpm = [bool] $own.TpmEnabled
        $shielded = [bool] $own.Shielded
    }
    [pscustomobject] @{
        tpm = $tpm
        shielded = $shielded
    }
}

function New-LbDiskRow {
    param([object] $Disk)
    $physical = $null -ne $Disk.DiskNumber
    $path = ''
    if (-not $physical) {
        $path = [string] $Disk.Path
    }
    [pscustomobject] @{
        path = [string] $path
        pass_through = $physical
        shared = $Disk.SupportPersistentReservations -eq $true
    }
}

# Without the property (before Windows Server 2025) no partition moves.
function Test-LbGpuMovable {
    param([AllowEmptyCollection()] [object[]] $Partitions)
    foreach ($partition in $Partitions) {
        if ((Get-LbValue -From $partition -Property 'SupportsOutgoingLiveMigration') -ne $true) {
            return $false
        }
    }
    $true
}

function New-LbVmRow {
    param([object] $Machine, [hashtable] $Parts)
    $id = [string] $Machine.Id
    $adapters = @(Select-LbPart -Groups $Parts.adapters -Key $id)
    $gpus = @(Select-LbPart -Groups $Parts.gpus -Key $id)
    $processors = @(Select-LbPart -Groups $Parts.processors -Key $id)
    $security = Get-LbVmSecurity -Security $Parts.security -Machine $Machine
    $virtual = @(foreach ($adapter in $adapters) { if ([long] $adapter.IovWeight -gt 0) { $adapter } })
    $incompatible = @(foreach ($processor in $processors) { if (-not $processor.CompatibilityForMigrationEnabled) { $processor } })
    $reserve = 0
    foreach ($processor in $processors) {
        $reserve = [int] $processor.Reserve
    }
    [pscustomobject] @{
        id = [string] $id
        name = [string] $Machine.Name
        state = [int] $Machine.State
        status = [int[]] @(foreach ($status in $Machine.OperationalStatus) { [int] $status })
        clustered = [bool] $Machine.IsClustered
        vcpus = [int] $Machine.ProcessorCount
        cpu_percent_of_host = [double] $Machine.CPUUsage
        memory_assigned_bytes = [long] $Machine.MemoryAssigned
        memory_demand_bytes = [long] $Machine.MemoryDemand
        memory_startup_bytes = [long] $Machine.MemoryStartup
        memory_maximum_bytes = [long] $Machine.MemoryMaximum
        dynamic_memory = [bool] $Machine.DynamicMemoryEnabled
        version = [string] $Machine.Version
        heartbeat = ConvertTo-LbNumber -Value $Machine.Heartbeat
        replication_mode = [int] $Machine.ReplicationMode
        replication_state = [int] $Machine.ReplicationState
        checkpoint_type = [int] $Machine.CheckpointType
        notes = [string] $Machine.Notes
        disks = [object[]] @(foreach ($disk in (Select-LbPart -Groups $Parts.disks -Key $id)) {
            if ($null -ne $disk.DiskNumber -or $disk.Path) {
                New-LbDiskRow -Disk $disk
            }
        })
        media = [string[]] @(foreach ($drive in (Select-LbPart -Groups $Parts.media -Key $id)) { if ($drive.Path) { [string] $drive.Path } })
        switches = [string[]] @(foreach ($adapter in $adapters) { if ($adapter.SwitchName) { [string] $adapter.SwitchName } })
        assigned_devices = @(Select-LbPart -Groups $Parts.devices -Key $id).Count
        gpu_partitions = $gpus.Count
        gpu_partitions_movable = Test-LbGpuMovable -Partitions $gpus
        fibre_channel_adapters = @(Select-LbPart -Groups $Parts.fibre -Key $id).Count
        sr_iov = $virtual.Count -gt 0
        tpm = [bool] $security.tpm
        shielded = [bool] $security.shielded
        cpu_compatible = $processors.Count -gt 0 -and $incompatible.Count -eq 0
        cpu_reserve_percent = [int] $reserve
        numa_nodes = [int] $Machine.NumaNodesCount
    }
}

# A migration's planned VM on its target has the same id as the VM it will become: leave it out.
function Get-LbMachines {
    foreach ($machine in @(Hyper-V\Get-VM -ErrorAction Stop)) {
        if ([int] $machine.VirtualMachineType -ne 4) {
            $machine
        }
    }
}

function Get-LbVmRows {
    $machines = @(Get-LbMachines)
    if ($machines.Count -eq 0) {
        return
    }
    $devices = @()
    $gpus = @()
    if (Test-LbCommand -Name 'Get-VMAssignableDevice') {
        $devices = @(Hyper-V\Get-VMAssignableDevice -VM $machines -ErrorAction Stop)
    }
    if (Test-LbCommand -Name 'Get-VMGpuPartitionAdapter') {
        $gpus = @(Hyper-V\Get-VMGpuPartitionAdapter -VM $machines -ErrorAction Stop)
    }
    $parts = @{
        disks = Group-LbByVm -Parts @(Hyper-V\Get-VMHardDiskDrive -VM $machines -ErrorAction Stop)
        media = Group-LbByVm -Parts @(Hyper-V\Get-VMDvdDrive -VM $machines -ErrorAction Stop)
        adapters = Group-LbByVm -Parts @(Hyper-V\Get-VMNetworkAdapter -VM $machines -ErrorAction Stop)
        fibre = Group-LbByVm -Parts @(Hyper-V\Get-VMFibreChannelHba -VM $machines -ErrorAction Stop)
        processors = Group-LbByVm -Parts @(Hyper-V\Get-VMProcessor -VM $machines -ErrorAction Stop)
        devices = Group-LbByVm -Parts $devices
        gpus = Group-LbByVm -Parts $gpus
        security = Get-LbSecurity
    }
    foreach ($machine in $machines) {
        New-LbVmRow -Machine $machine -Parts $parts
    }
}

function Read-LbVms {
    try {
        try {
            $rows = @(Get-LbVmRows)
        } catch {
            # A VM that left between two of the calls spoils the first reading, not a second one.
            $rows = @(Get-LbVmRows)
        }
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# ---- One host: networks and jobs -----------------------------------------------------------

function Read-LbSwitches {
    try {
        $rows = @(foreach ($virtualSwitch in @(Hyper-V\Get-VMSwitch -ErrorAction Stop)) { [string] $virtualSwitch.Name })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# Loopback and self-assigned addresses lead nowhere.
function Test-LbRoutable {
    param([string] $Address)
    $parsed = [System.Net.IPAddress]::None
    if (-not [System.Net.IPAddress]::TryParse($Address, [ref] $parsed)) {
        return $false
    }
    if ([System.Net.IPAddress]::IsLoopback($parsed) -or $parsed.IsIPv6LinkLocal) {
        return $false
    }
    -not $Address.StartsWith('169.254.')
}

function Read-LbNics {
    try {
        $adapters = @(CimCmdlets\Get-CimInstance -Namespace 'root\StandardCimv2' -ClassName MSFT_NetAdapter -ErrorAction Stop)
        $rdma = @{}
        foreach ($setting in @(CimCmdlets\Get-CimInstance -Namespace 'root\StandardCimv2' -ClassName MSFT_NetAdapterRdmaSettingData -ErrorAction Stop)) {
            $rdma[[string] $setting.Name] = [bool] $setting.Enabled -and [bool] $setting.OperationalState
        }
        $addresses = @{}
        foreach ($address in @(CimCmdlets\Get-CimInstance -Namespace 'root\StandardCimv2' -ClassName MSFT_NetIPAddress -ErrorAction Stop)) {
            if (Test-LbRoutable -Address ([string] $address.IPAddress)) {
                $text = '{0}/{1}' -f [string] $address.IPAddress, [int] $address.PrefixLength
                Add-LbPart -Groups $addresses -Key ([string] $address.InterfaceIndex) -Part $text
            }
        }
        $rows = @(foreach ($adapter in $adapters) {
            $own = @(Select-LbPart -Groups $addresses -Key ([string] $adapter.InterfaceIndex))
            # Operational status 1 is up; an adapter that is down reports no speed worth knowing.
            if ($own.Count -gt 0 -and [int] $adapter.InterfaceOperationalStatus -eq 1) {
                [pscustomobject] @{
                    name = [string] $adapter.Name
                    link_bps = [double] $adapter.TransmitLinkSpeed
                    rdma = $rdma.ContainsKey([string] $adapter.Name) -and $rdma[[string] $adapter.Name]
                    addresses = [string[]] $own
                }
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

function Read-LbMigrationNetworks {
    try {
        $rows = @(foreach ($network in @(Hyper-V\Get-VMMigrationNetwork -ErrorAction Stop)) {
            [pscustomobject] @{
                subnet = [string] $network.Subnet
                priority = ConvertTo-LbNumber -Value $network.Priority
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# The class behind Get-SmbBandwidthLimit, whose categories are numbers: LiveMigration is 2.
function Read-LbSmbLimit {
    try {
        $limit = $null
        foreach ($row in @(CimCmdlets\Get-CimInstance -Namespace 'root\Microsoft\Windows\SMB' -ClassName MSFT_SmbBandwidthLimit -ErrorAction Stop)) {
            if ([int] $row.Category -eq 2) {
                $limit = [long] $row.BytesPerSecond
            }
        }
        New-LbSection -Data ([pscustomobject] @{
            live_migration_bytes_per_s = $limit
        })
    } catch {
        New-LbFailure -Record $_
    }
}

function Get-LbJobs {
    CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_MigrationJob -ErrorAction Stop
}

function Read-LbJobs {
    try {
        $rows = @(foreach ($job in @(Get-LbJobs)) {
            [pscustomobject] @{
                vm = ConvertTo-LbId -Text $job.VirtualSystemName
                job_type = [int] $job.JobType
                state = [int] $job.JobState
                percent = [int] $job.PercentComplete
                error_code = [int] $job.ErrorCode
                target = [string] $job.DestinationHost
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# Network ATC writes the migration settings again whenever somebody else has changed them.
function Test-LbManaged {
    if (-not (Test-LbCommand -Name 'Get-NetIntent')) {
        return $false
    }
    @(NetworkATC\Get-NetIntent -ErrorAction Stop).Count -gt 0
}

function Read-LbAtc {
    try {
        New-LbSection -Data ([pscustomobject] @{
            managed = Test-LbManaged
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# System Center Virtual Machine Manager leaves its agent on every host that it manages. Whether it
# also balances them, only its own server knows.
function Test-LbManagedByVmm {
    foreach ($service in @(CimCmdlets\Get-CimInstance -Namespace 'root\cimv2' -ClassName Win32_Service -Filter "Name = 'SCVMMAgent'" -Property 'Name', 'Started' -ErrorAction Stop)) {
        if ($service.Started) {
            return $true
        }
    }
    $false
}

# While Cluster-Aware Updating is at work, each node holds the one object of this class. Where its
# namespace (2147749902) or class (2147749904) is missing, its tools are not installed.
function Test-LbUpdating {
    try {
        @(CimCmdlets\Get-CimInstance -Namespace 'root\Microsoft\Windows\ClusterUpdate' -ClassName MSFT_CAURun -Property 'OrchestratorGuid' -ErrorAction Stop).Count -gt 0
    } catch {
        if ((Find-LbCode -Text $_.FullyQualifiedErrorId) -in 2147749902, 2147749904) {
            return $false
        }
        throw
    }
}

function Read-LbOthers {
    try {
        New-LbSection -Data ([pscustomobject] @{
            scvmm_agent = Test-LbManagedByVmm
            updating = Test-LbUpdating
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# ---- The cluster ---------------------------------------------------------------------------

# All private properties of a cluster object by name; asking for a missing one would be an error.
function Get-LbParameters {
    param([object] $ClusterObject)
    $values = @{}
    foreach ($parameter in @(FailoverClusters\Get-ClusterParameter -InputObject $ClusterObject -ErrorAction Stop)) {
        $values[[string] $parameter.Name] = $parameter.Value
    }
    $values
}

function Read-LbClusterSettings {
    try {
        $cluster = FailoverClusters\Get-Cluster -ErrorAction Stop
        $quorum = FailoverClusters\Get-ClusterQuorum -ErrorAction Stop
        $witness = $null
        if ($null -ne $quorum.QuorumResource) {
            $witness = [int] $quorum.QuorumResource.State -eq 2
        }
        New-LbSection -Data ([pscustomobject] @{
            name = [string] $cluster.Name
            node = [string] [System.Environment]::MachineName
            functional_level = [int] $cluster.ClusterFunctionalLevel
            migrations_max = ConvertTo-LbNumber -Value (Get-LbValue -From $cluster -Property 'MaximumParallelMigrations')
            auto_balancer_mode = ConvertTo-LbNumber -Value (Get-LbValue -From $cluster -Property 'AutoBalancerMode')
            auto_balancer_level = ConvertTo-LbNumber -Value (Get-LbValue -From $cluster -Property 'AutoBalancerLevel')
            enforced_anti_affinity = [long] $cluster.ClusterEnforcedAntiAffinity -ne 0
            witness_online = $witness
        })
    } catch {
        New-LbFailure -Record $_
    }
}

function Read-LbNodes {
    try {
        $rows = @(foreach ($node in @(FailoverClusters\Get-ClusterNode -ErrorAction Stop)) {
            [pscustomobject] @{
                name = [string] $node.Name
                state = [int] $node.State
                status = [int] $node.StatusInformation
                drain = [int] $node.DrainStatus
                weight = [int] $node.DynamicWeight
                fault_domain = [string[]] @(foreach ($domain in (Get-LbValue -From $node -Property 'FaultDomain')) { [string] $domain })
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

function Get-LbOwners {
    param([object] $ClusterObject)
    $list = FailoverClusters\Get-ClusterOwnerNode -InputObject $ClusterObject -ErrorAction Stop
    foreach ($node in $list.OwnerNodes) {
        [string] $node.Name
    }
}

# A VM runs only where both of its resources, the VM and its configuration, may. Every node is
# told as '*': in a cluster of 64 nodes the names would be most of the answer.
function Get-LbPossibleOwners {
    param([object[]] $Resources, [string[]] $Nodes)
    $owners = @(Get-LbOwners -ClusterObject $Resources[0])
    foreach ($resource in $Resources) {
        $allowed = @(Get-LbOwners -ClusterObject $resource)
        $owners = @(foreach ($owner in $owners) { if ($allowed -contains $owner) { $owner } })
    }
    foreach ($node in $Nodes) {
        if ($owners -notcontains $node) {
            return $owners
        }
    }
    '*'
}

# A role with several VMs cannot be moved by one VM's id without moving the others: it is
# reported without a VM, and so is never moved.
function New-LbGroupRow {
    param([object] $Group, [AllowEmptyCollection()] [object[]] $Resources, [string[]] $Nodes)
    $machines = @(foreach ($resource in $Resources) { if ([string] $resource.ResourceType.Name -eq 'Virtual Machine') { $resource } })
    $vm = ''
    $values = @{}
    $possible = @()
    $preferred = @()
    if ($machines.Count -eq 1) {
        $values = Get-LbParameters -ClusterObject $machines[0]
        $vm = ConvertTo-LbId -Text $values['VmId']
        $possible = @(Get-LbPossibleOwners -Resources $Resources -Nodes $Nodes)
        $preferred = @(Get-LbOwners -ClusterObject $Group)
    }
    [pscustomobject] @{
        name = [string] $Group.Name
        id = [string] $Group.Id
        owner = [string] $Group.OwnerNode.Name
        state = [int] $Group.State
        group_type = [int] $Group.GroupType
        status = [int] $Group.StatusInformation
        priority = [int] $Group.Priority
        locked = (Get-LbValue -From $Group -Property 'LockedFromMoving') -gt 0
        core = [bool] $Group.IsCoreGroup
        anti_affinity = [string[]] @(foreach ($class in $Group.AntiAffinityClassNames) { [string] $class })
        vm = [string] $vm
        possible_owners = [string[]] $possible
        preferred_owners = [string[]] $preferred
        migration_state = ConvertTo-LbNumber -Value $values['MigrationState']
        migration_progress = ConvertTo-LbNumber -Value $values['MigrationProgress']
        migration_failure = ConvertTo-LbUnsigned -Value $values['MigrationFailureReason']
    }
}

function Get-LbGroupRows {
    $byGroup = @{}
    foreach ($resource in @(FailoverClusters\Get-ClusterResource -ErrorAction Stop)) {
        $type = [string] $resource.ResourceType.Name
        if ($type -eq 'Virtual Machine' -or $type -eq 'Virtual Machine Configuration') {
            Add-LbPart -Groups $byGroup -Key ([string] $resource.OwnerGroup.Id) -Part $resource
        }
    }
    $nodes = @(foreach ($node in @(FailoverClusters\Get-ClusterNode -ErrorAction Stop)) { [string] $node.Name })
    foreach ($group in @(FailoverClusters\Get-ClusterGroup -ErrorAction Stop)) {
        New-LbGroupRow -Group $group -Resources @(Select-LbPart -Groups $byGroup -Key ([string] $group.Id)) -Nodes $nodes
    }
}

function Read-LbGroups {
    try {
        try {
            $rows = @(Get-LbGroupRows)
        } catch {
            # As with VMs: a role removed between two calls spoils one reading.
            $rows = @(Get-LbGroupRows)
        }
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# The cmdlet came with Windows Server 2022. Where it exists the class behind it is read, because
# the cmdlet may dress its numbers up as words.
function Read-LbAffinity {
    try {
        $rules = @()
        if (Test-LbCommand -Name 'Get-ClusterAffinityRule') {
            $rules = @(CimCmdlets\Get-CimInstance -Namespace 'root\MSCluster' -ClassName MSCluster_AffinityRule -ErrorAction Stop)
        }
        $rows = @(foreach ($rule in $rules) {
            [pscustomobject] @{
                name = [string] $rule.Name
                rule_type = [int] $rule.RuleType
                groups = [string[]] @(foreach ($group in $rule.Groups) { [string] $group })
                enabled = [long] $rule.Enabled -ne 0
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

# How each node reaches a volume, the worst of its partitions. From the worst: Unavailable 0,
# Paused 1, BlockRedirected 4, FileSystemRedirected 3, Direct 2.
function Get-LbAccess {
    param([AllowEmptyCollection()] [object[]] $States, [string] $Volume)
    $ranks = @{ 0 = 0; 1 = 1; 4 = 2; 3 = 3; 2 = 4 }
    $access = [ordered] @{}
    foreach ($state in $States) {
        if ([string] $state.Name -eq $Volume) {
            $node = [string] $state.Node
            $value = [int] $state.StateInfo
            if (-not $access.Contains($node) -or $ranks[$value] -lt $ranks[$access[$node]]) {
                $access[$node] = $value
            }
        }
    }
    $access
}

function Read-LbVolumes {
    try {
        $volumes = @(FailoverClusters\Get-ClusterSharedVolume -ErrorAction Stop)
        $states = @()
        if ($volumes.Count -gt 0) {
            $states = @(FailoverClusters\Get-ClusterSharedVolumeState -ErrorAction Stop)
        }
        $rows = @(foreach ($volume in $volumes) {
            foreach ($partition in $volume.SharedVolumeInfo) {
                [pscustomobject] @{
                    name = [string] $volume.Name
                    owner = [string] $volume.OwnerNode.Name
                    path = [string] $partition.FriendlyVolumeName
                    access = Get-LbAccess -States $states -Volume ([string] $volume.Name)
                }
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

function Get-LbSubnets {
    param([AllowNull()] [object] $Addresses, [AllowNull()] [object] $Lengths)
    $bits = @(foreach ($length in $Lengths) { [string] $length })
    $index = 0
    foreach ($address in $Addresses) {
        if ($index -lt $bits.Count) {
            '{0}/{1}' -f [string] $address, $bits[$index]
        }
        $index += 1
    }
}

function Read-LbNetworks {
    try {
        $rows = @(foreach ($network in @(FailoverClusters\Get-ClusterNetwork -ErrorAction Stop)) {
            $subnets = @(Get-LbSubnets -Addresses $network.Ipv4Addresses -Lengths $network.Ipv4PrefixLengths)
            $subnets += @(Get-LbSubnets -Addresses $network.Ipv6Addresses -Lengths $network.Ipv6PrefixLengths)
            [pscustomobject] @{
                name = [string] $network.Name
                id = [string] $network.Id
                role = [int] $network.Role
                state = [int] $network.State
                subnets = [string[]] $subnets
                metric = [long] $network.Metric
            }
        })
        New-LbList -Rows $rows
    } catch {
        New-LbFailure -Record $_
    }
}

function Split-LbIds {
    param([object] $Text)
    foreach ($id in ([string] $Text).Split(';')) {
        if ($id.Trim()) {
            $id.Trim()
        }
    }
}

function Read-LbVmResourceType {
    try {
        $type = FailoverClusters\Get-ClusterResourceType -Name 'Virtual Machine' -ErrorAction Stop
        $values = Get-LbParameters -ClusterObject $type
        New-LbSection -Data ([pscustomobject] @{
            excluded_networks = [string[]] @(Split-LbIds -Text $values['MigrationExcludeNetworks'])
            network_order = [string[]] @(Split-LbIds -Text $values['MigrationNetworkOrder'])
            move_type_threshold = ConvertTo-LbNumber -Value $values['MoveTypeThreshold']
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# Storage Spaces Direct keeps copies on the nodes' own disks: a node taken away during a repair may
# take the last good copy along. The classes behind Get-StorageJob and Get-VirtualDisk are read,
# and only where a cluster has Storage Spaces Direct; other pools on a node are not our matter.
function Read-LbStorage {
    try {
        $cluster = FailoverClusters\Get-Cluster -ErrorAction Stop
        $direct = (Get-LbValue -From $cluster -Property 'S2DEnabled') -gt 0
        $jobs = 0
        $unhealthy = @()
        if ($direct -and (Test-LbCommand -Name 'Get-StorageJob')) {
            # Job states up to 6 have not ended: new, starting, running, suspended, shutting down.
            foreach ($job in @(CimCmdlets\Get-CimInstance -Namespace 'root\Microsoft\Windows\Storage' -ClassName MSFT_StorageJob -Property 'JobState' -ErrorAction Stop)) {
                if ([int] $job.JobState -in 2, 3, 4, 5, 6) {
                    $jobs += 1
                }
            }
            $unhealthy = @(foreach ($disk in @(CimCmdlets\Get-CimInstance -Namespace 'root\Microsoft\Windows\Storage' -ClassName MSFT_VirtualDisk -Property 'FriendlyName', 'HealthStatus' -ErrorAction Stop)) {
                if ([int] $disk.HealthStatus -ne 0) {
                    [string] $disk.FriendlyName
                }
            })
        }
        New-LbSection -Data ([pscustomobject] @{
            direct = [bool] $direct
            jobs = [int] $jobs
            unhealthy = [string[]] $unhealthy
        })
    } catch {
        New-LbFailure -Record $_
    }
}

# ---- Who may act ---------------------------------------------------------------------------

# The group that holds the cluster's own name; its display name is localised.
function Get-LbCoreGroup {
    foreach ($group in @(FailoverClusters\Get-ClusterGroup -ErrorAction Stop)) {
        if ($group.IsCoreGroup -and [int] $group.GroupType -eq 1) {
            return $group
        }
    }
    throw 'LbNoCoreGroup'
}

# Lease, freeze and fence. In a cluster they are properties of the core group, so that every node
# and every administrator sees the same; on a stand-alone host they are in the registry.
function Get-LbControlPart {
    if (Test-LbClusterNode) {
        $values = Get-LbParameters -ClusterObject (Get-LbCoreGroup)
        return [pscustomobject] @{
            fence = [long] $values['HyperVBalancerFence']
            lease = [string] $values['BalancerLease']
            freeze = [string] $values['BalancerFreeze']
        }
    }
    [pscustomobject] @{
        fence = [long] [Microsoft.Win32.Registry]::GetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'Fence', [long] 0)
        lease = [string] [Microsoft.Win32.Registry]::GetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'BalancerLease', '')
        freeze = [string] [Microsoft.Win32.Registry]::GetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'BalancerFreeze', '')
    }
}

function Read-LbControl {
    try {
        New-LbSection -Data (Get-LbControlPart)
    } catch {
        New-LbFailure -Record $_
    }
}

# ---- Single VMs ----------------------------------------------------------------------------

# The ids of the realised VMs on this host. An account without rights is shown nothing at all,
# not even the host itself, which is always there: never take that for "the VM has left".
function Get-LbPresent {
    $present = @{}
    $systems = @(CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_ComputerSystem -Property 'Name' -ErrorAction Stop)
    if ($systems.Count -eq 0) {
        throw 'LbHyperVUnreadable'
    }
    foreach ($system in $systems) {
        $id = ConvertTo-LbId -Text $system.Name
        if ($id) {
            $present[$id] = 1 + [int] $present[$id]
        }
    }
    $present
}

# The cluster's resource of a VM: found by id and proven by the id it carries itself.
function Get-LbVmResource {
    param([guid] $VmId)
    foreach ($resource in @(FailoverClusters\Get-ClusterResource -VMId $VmId -ErrorAction Stop)) {
        if ([string] $resource.ResourceType.Name -eq 'Virtual Machine') {
            $values = Get-LbParameters -ClusterObject $resource
            if ((ConvertTo-LbId -Text $values['VmId']) -eq $VmId.ToString()) {
                [pscustomobject] @{
                    group = $resource.OwnerGroup
                    values = $values
                }
            }
        }
    }
}

# Completion events of the last minutes: VM id and blackout by position, no text.
function Get-LbBlackouts {
    $blackouts = @{}
    $filter = @{
        LogName = 'Microsoft-Windows-Hyper-V-VMMS-Admin'
        Id = 20415, 20417
        StartTime = [datetime]::Now.AddMinutes(-10)
    }
    # No such event is an error to this cmdlet. Newest first, so the first one of a VM counts.
    foreach ($entry in @(Microsoft.PowerShell.Diagnostics\Get-WinEvent -FilterHashtable $filter -ErrorAction SilentlyContinue)) {
        if ($entry.Properties.Count -gt 2) {
            $id = ConvertTo-LbId -Text $entry.Properties[1].Value
            $seconds = 0.0
            $text = [System.Convert]::ToString($entry.Properties[2].Value, [System.Globalization.CultureInfo]::InvariantCulture)
            $read = [double]::TryParse($text, [System.Globalization.NumberStyles]::Float, [System.Globalization.CultureInfo]::InvariantCulture, [ref] $seconds)
            if ($id -and $read -and -not $blackouts.ContainsKey($id)) {
                $blackouts[$id] = $seconds
            }
        }
    }
    $blackouts
}

function Get-LbNewestJob {
    param([AllowEmptyCollection()] [object[]] $Jobs, [string] $Id)
    $newest = $null
    foreach ($job in $Jobs) {
        if ((ConvertTo-LbId -Text $job.VirtualSystemName) -eq $Id) {
            if ($null -eq $newest -or $job.TimeSubmitted -gt $newest.TimeSubmitted) {
                $newest = $job
            }
        }
    }
    $newest
}

# 0x80004005 (2147500037) stands for a failure that left no code behind.
function Get-LbMoveFailure {
    param([hashtable] $Values, [AllowNull()] [object] $Job)
    if ([int] $Values['MigrationState'] -eq 5) {
        $code = ConvertTo-LbUnsigned -Value $Values['MigrationFailureReason']
        if ($code) {
            return $code
        }
        return 2147500037
    }
    if ($null -ne $Job -and [int] $Job.JobState -in 8, 9, 10) {
        $code = Find-LbCode -Text ('{0} {1}' -f $Job.ErrorDescription, $Job.ErrorSummaryDescription)
        if ($null -ne $code) {
            return $code
        }
        return 2147500037
    }
    $null
}

function New-LbMoveRow {
    param([guid] $VmId, [bool] $Present, [bool] $ClusterNode, [AllowNull()] [object] $Job, [AllowNull()] [object] $Blackout)
    $machine = $null
    if ($Present) {
        # It may have left since; then nothing is said about its state.
        $machine = Hyper-V\Get-VM -Id $VmId -ErrorAction SilentlyContinue
    }
    $group = $null
    $values = @{}
    if ($ClusterNode) {
        try {
            $found = @(Get-LbVmResource -VmId $VmId)
            if ($found.Count -eq 1) {
                $group = $found[0].group
                $values = $found[0].values
            }
        } catch {
            # Not clustered, or the cluster does not answer: both read as "owner not known".
            $group = $null
        }
    }
    $owner = ''
    if ($null -ne $group) {
        $owner = $group.OwnerNode.Name
    }
    $reason = ''
    if ($null -ne $Job) {
        $reason = $Job.ErrorDescription
    }
    [pscustomobject] @{
        vm = [string] $VmId
        present = $Present
        state = if ($null -ne $machine) { [int] $machine.State } else { $null }
        status = [int[]] @(if ($null -ne $machine) { foreach ($status in $machine.OperationalStatus) { [int] $status } })
        owner = [string] $owner
        group_state = if ($null -ne $group) { [int] $group.State } else { $null }
        group_status = if ($null -ne $group) { [int] $group.StatusInformation } else { $null }
        migration_state = ConvertTo-LbNumber -Value $values['MigrationState']
        progress = ConvertTo-LbNumber -Value $values['MigrationProgress']
        failure = Get-LbMoveFailure -Values $values -Job $Job
        failure_text = [string] $reason
        job_state = if ($null -ne $Job) { [int] $Job.JobState } else { $null }
        job_percent = if ($null -ne $Job) { [int] $Job.PercentComplete } else { $null }
        heartbeat = if ($null -ne $machine) { ConvertTo-LbNumber -Value $machine.Heartbeat } else { $null }
        blackout_s = $Blackout
    }
}

# ---- Acts ----------------------------------------------------------------------------------

# Where the highest fencing number is kept: in the cluster for its nodes, so that all of them
# know, in the registry for a stand-alone host. By the registry's own classes, because a
# constrained session shows no drives.
function Get-LbFence {
    param([AllowNull()] [object] $CoreGroup)
    if ($null -ne $CoreGroup) {
        $values = Get-LbParameters -ClusterObject $CoreGroup
        return [long] $values['HyperVBalancerFence']
    }
    [long] [Microsoft.Win32.Registry]::GetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'Fence', [long] 0)
}

function Set-LbFence {
    param([AllowNull()] [object] $CoreGroup, [long] $Fence)
    if ($null -ne $CoreGroup) {
        # As text, because a cluster property holds no 64 bit number on every version.
        $missing = -not (Get-LbParameters -ClusterObject $CoreGroup).ContainsKey('HyperVBalancerFence')
        FailoverClusters\Set-ClusterParameter -InputObject $CoreGroup -Create:$missing -Name 'HyperVBalancerFence' -Value ([string] $Fence) -ErrorAction Stop
    } else {
        [Microsoft.Win32.Registry]::SetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'Fence', $Fence, [Microsoft.Win32.RegistryValueKind]::QWord)
    }
}

# True when a newer number has been here. Written before acting and read back. That is no atomic
# exchange: an older writer that read before a newer one wrote can put its lower number over it for
# a moment. So whoever acts asks twice, first of all and again right before the act: the newer one
# puts its number back, and the older one sees it. A number that is there already is not written,
# so a late request with one that was known here never lowers it.
function Test-LbFenced {
    param([long] $Fence)
    $core = $null
    if (Test-LbClusterNode) {
        $core = Get-LbCoreGroup
    }
    $seen = Get-LbFence -CoreGroup $core
    if ($seen -lt $Fence) {
        $null = Set-LbFence -CoreGroup $core -Fence $Fence
        $seen = Get-LbFence -CoreGroup $core
    }
    $seen -gt $Fence
}

function Find-LbNode {
    param([string] $Name)
    foreach ($node in @(FailoverClusters\Get-ClusterNode -ErrorAction Stop)) {
        if ([string] $node.Name -eq $Name) {
            return $node
        }
    }
    $null
}

# Returns a refusal, or nothing when the cluster took the move. The cluster owns it from then on:
# it goes on whatever becomes of this session.
function Start-LbClusterMove {
    param([guid] $VmId, [string] $Target)
    $found = @(Get-LbVmResource -VmId $VmId)
    if ($found.Count -ne 1) {
        return New-LbRefusal -Id 'LbVmNotUnique' -Message ('{0} cluster resources carry the id {1}' -f $found.Count, $VmId)
    }
    $node = Find-LbNode -Name $Target
    if ($null -eq $node) {
        return New-LbRefusal -Id 'LbTargetUnknown' -Message 'the target is no node of this cluster'
    }
    $null = FailoverClusters\Move-ClusterVirtualMachineRole -InputObject $found[0].group -Node ([string] $node.Name) -MigrationType Live -Wait 0 -ErrorAction Stop
    $null
}

# The text form in which the migration service takes an instance as an argument.
function ConvertTo-LbEmbedded {
    param([object] $Instance)
    $serializer = [Microsoft.Management.Infrastructure.Serialization.CimSerializer]::Create()
    $bytes = $serializer.Serialize($Instance, [Microsoft.Management.Infrastructure.Serialization.InstanceSerializationOptions]::None)
    [System.Text.Encoding]::Unicode.GetString($bytes)
}

# What only the target knows: the addresses it listens on, and whether it takes SMB.
function Get-LbTargetService {
    param([string] $Target)
    $session = CimCmdlets\New-CimSession -ComputerName $Target -OperationTimeoutSec 30 -ErrorAction Stop
    try {
        $service = CimCmdlets\Get-CimInstance -CimSession $session -Namespace 'root\virtualization\v2' -ClassName Msvm_VirtualSystemMigrationService -ErrorAction Stop
        $setting = CimCmdlets\Get-CimInstance -CimSession $session -Namespace 'root\virtualization\v2' -ClassName Msvm_VirtualSystemMigrationServiceSettingData -ErrorAction Stop
        [pscustomobject] @{
            listeners = [string[]] @(foreach ($address in $service.MigrationServiceListenerIPAddressList) { [string] $address })
            smb = [bool] $setting.EnableSmbTransport
        }
    } finally {
        CimCmdlets\Remove-CimSession -CimSession $session -ErrorAction SilentlyContinue
    }
}

# A VM outside a cluster. Not Move-VM: in the foreground it blocks until the VM has arrived, and
# stopping it cancels the move; with -AsJob it returns before anything was accepted, its errors
# stay in the job, and closing the session stops every job of it, so that a client that dies
# would take its moves along. The service's own method returns once its job exists; the job
# belongs to the service and outlives us. The transport follows what Move-VM does: SMB when both
# ends have it switched on, else whatever the source's settings give.
function Start-LbHostMove {
    param([guid] $VmId, [string] $Target)
    $there = Get-LbTargetService -Target $Target
    if ($there.listeners.Count -eq 0) {
        return New-LbRefusal -Id 'LbTargetNotListening' -Message 'the target accepts no live migrations on any address'
    }
    $filter = "Name = '{0}'" -f $VmId.ToString().ToUpperInvariant()
    $system = CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_ComputerSystem -Filter $filter -ErrorAction Stop
    $here = CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_VirtualSystemMigrationServiceSettingData -ErrorAction Stop
    # Migration type 32768: the VM alone; its files stay where both hosts reach them.
    $settings = @(CimCmdlets\Get-CimInstance -Namespace 'root\virtualization\v2' -ClassName Msvm_VirtualSystemMigrationSettingData -Filter 'MigrationType = 32768' -ErrorAction Stop)[0]
    $settings.DestinationIPAddressList = $there.listeners
    # Transport 32768 is SMB, 5 is TCP; whether TCP is compressed is the source's own setting.
    $settings.TransportType = [uint16] 5
    if ($there.smb -and $here.EnableSmbTransport) {
        $settings.TransportType = [uint16] 32768
    }
    $answer = CimCmdlets\Invoke-CimMethod -InputObject (Get-LbMigrationService) -MethodName MigrateVirtualSystemToHost -Arguments @{
        ComputerSystem = $system
        DestinationHost = $Target
        MigrationSettingData = ConvertTo-LbEmbedded -Instance $settings
    } -ErrorAction Stop
    # 4096: accepted as a job. The other codes are the service's own, not HRESULTs.
    if ([long] $answer.ReturnValue -notin 0, 4096) {
        return New-LbRefusal -Id ('LbMigrateReturned{0}' -f [long] $answer.ReturnValue) -Message 'the migration service refused the move'
    }
    $null
}

# Returns a refusal, or nothing. Nothing to cancel (0x8007139F, 2147947423) is no failure.
function Stop-LbClusterMove {
    param([guid] $VmId)
    $found = @(Get-LbVmResource -VmId $VmId)
    if ($found.Count -ne 1) {
        return New-LbRefusal -Id 'LbVmNotUnique' -Message ('{0} cluster resources carry the id {1}' -f $found.Count, $VmId)
    }
    try {
        $null = FailoverClusters\Move-ClusterVirtualMachineRole -InputObject $found[0].group -Cancel -Wait 0 -ErrorAction Stop
    } catch {
        # 0x800703E5 (2147943397): the cancellation was taken and is under way.
        if ((Get-LbCode -Failure $_.Exception) -notin 2147947423, 2147943397) {
            throw
        }
    }
    $null
}

function Stop-LbHostMove {
    param([guid] $VmId)
    foreach ($job in @(Get-LbJobs)) {
        # States 2 to 6 are a job that has not ended.
        if ((ConvertTo-LbId -Text $job.VirtualSystemName) -eq $VmId.ToString() -and [int] $job.JobState -in 2, 3, 4, 5, 6) {
            $answer = CimCmdlets\Invoke-CimMethod -InputObject $job -MethodName RequestStateChange -Arguments @{
                RequestedState = [uint16] 4
            } -ErrorAction Stop
            if ([long] $answer.ReturnValue -notin 0, 4096) {
                return New-LbRefusal -Id ('LbCancelReturned{0}' -f [long] $answer.ReturnValue) -Message 'the migration job refused to end'
            }
        }
    }
    $null
}

# A migration in either direction, or a VM role of this node that waits or changes.
function Test-LbBusy {
    if ([int] (Get-LbMigrationService).ActiveVirtualSystemMigrationCount -gt 0) {
        return $true
    }
    if (Test-LbClusterNode) {
        foreach ($group in @(FailoverClusters\Get-ClusterGroup -ErrorAction Stop)) {
            if ([int] $group.GroupType -eq 111 -and [string] $group.OwnerNode.Name -eq [System.Environment]::MachineName) {
                # Group state 4 is Pending, status flag 4 is Queued.
                if ([int] $group.State -eq 4 -or ([long] $group.StatusInformation -band 4) -ne 0) {
                    return $true
                }
            }
        }
    }
    $false
}

function Get-LbTransport {
    [int] (Hyper-V\Get-VMHost -ErrorAction Stop).VirtualMachineMigrationPerformanceOption
}

function Set-LbTransportValue {
    param([int] $Expected, [int] $Value, [long] $Fence)
    if (Test-LbFenced -Fence $Fence) {
        return 'fenced'
    }
    if (Test-LbManaged) {
        return 'managed'
    }
    $now = Get-LbTransport
    if ($now -eq $Value) {
        return 'written'
    }
    if ($now -ne $Expected) {
        return 'differs'
    }
    if (Test-LbBusy) {
        return 'busy'
    }
    if (Test-LbFenced -Fence $Fence) {
        return 'fenced'
    }
    $null = Hyper-V\Set-VMHost -VirtualMachineMigrationPerformanceOption $Value -Confirm:$false -ErrorAction Stop
    if ((Get-LbTransport) -eq $Value) {
        'written'
    } else {
        'differs'
    }
}

# Writes a text, and says what is there afterwards: of two writers the first finds the second's.
function Set-LbControlText {
    param([string] $Name, [string] $Value)
    if (Test-LbClusterNode) {
        $core = Get-LbCoreGroup
        $values = Get-LbParameters -ClusterObject $core
        if ($Name -eq 'lease') {
            FailoverClusters\Set-ClusterParameter -InputObject $core -Create:(-not $values.ContainsKey('BalancerLease')) -Name 'BalancerLease' -Value $Value -ErrorAction Stop
        } else {
            FailoverClusters\Set-ClusterParameter -InputObject $core -Create:(-not $values.ContainsKey('BalancerFreeze')) -Name 'BalancerFreeze' -Value $Value -ErrorAction Stop
        }
    } elseif ($Name -eq 'lease') {
        [Microsoft.Win32.Registry]::SetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'BalancerLease', $Value)
    } else {
        [Microsoft.Win32.Registry]::SetValue('HKEY_LOCAL_MACHINE\SOFTWARE\HyperVBalancer', 'BalancerFreeze', $Value)
    }
}

function Get-LbControlText {
    param([string] $Name)
    $part = Get-LbControlPart
    if ($Name -eq 'lease') {
        $part.lease
    } else {
        $part.freeze
    }
}

# A freeze stops executors, so it needs no number of one: whoever may write the cluster may freeze.
function Set-LbControlValue {
    param([string] $Name, [string] $Expected, [string] $Value, [long] $Fence)
    if ($Name -eq 'lease' -and (Test-LbFenced -Fence $Fence)) {
        return 'fenced'
    }
    if ((Get-LbControlText -Name $Name) -cne $Expected) {
        return 'differs'
    }
    $null = Set-LbControlText -Name $Name -Value $Value
    if ((Get-LbControlText -Name $Name) -cne $Value) {
        return 'differs'
    }
    'written'
}

# Returns a refusal, or nothing. A paused node runs on and votes; nothing lands on it. Draining is
# our own business, because the cluster's would save and stop VMs of low priority.
function Set-LbNodeState {
    param([string] $Name, [string] $State)
    $node = Find-LbNode -Name $Name
    if ($null -eq $node) {
        return New-LbRefusal -Id 'LbTargetUnknown' -Message 'that is no node of this cluster'
    }
    $paused = [int] $node.State -eq 2
    if ($State -eq 'pause' -and -not $paused) {
        $null = FailoverClusters\Suspend-ClusterNode -InputObject $node -ErrorAction Stop
    }
    if ($State -eq 'resume' -and $paused) {
        $null = FailoverClusters\Resume-ClusterNode -InputObject $node -Failback NoFailback -ErrorAction Stop
    }
    $null
}

# True unless every VM of a group stands still. The group's own state does not tell: it is partly
# online where the VM is off and its configuration is loaded.
function Test-LbGroupRuns {
    param([string] $GroupId)
    foreach ($resource in @(FailoverClusters\Get-ClusterResource -ErrorAction Stop)) {
        if ([string] $resource.OwnerGroup.Id -eq $GroupId -and [string] $resource.ResourceType.Name -eq 'Virtual Machine') {
            # Resource state 3 is offline, 4 is failed.
            if ([int] $resource.State -notin 3, 4) {
                return $true
            }
        }
    }
    $false
}

# Returns a refusal, or nothing. Moving a group takes a VM that runs offline on the way, so such a
# group is never moved like this.
function Move-LbGroupTo {
    param([guid] $GroupId, [string] $Target)
    $node = Find-LbNode -Name $Target
    if ($null -eq $node) {
        return New-LbRefusal -Id 'LbTargetUnknown' -Message 'the target is no node of this cluster'
    }
    foreach ($group in @(FailoverClusters\Get-ClusterGroup -ErrorAction Stop)) {
        if ((ConvertTo-LbId -Text $group.Id) -eq $GroupId.ToString()) {
            if (Test-LbGroupRuns -GroupId ([string] $group.Id)) {
                return New-LbRefusal -Id 'LbGroupRuns' -Message 'a VM of the group runs: it is live migrated, not moved'
            }
            if ([string] $group.OwnerNode.Name -ne [string] $node.Name) {
                $null = FailoverClusters\Move-ClusterGroup -InputObject $group -Node ([string] $node.Name) -Wait 0 -ErrorAction Stop
            }
            return $null
        }
    }
    New-LbRefusal -Id 'LbGroupNotFound' -Message ('no cluster group has the id {0}' -f $GroupId)
}

function Move-LbVolumeTo {
    param([string] $Name, [string] $Target)
    $node = Find-LbNode -Name $Target
    if ($null -eq $node) {
        return New-LbRefusal -Id 'LbTargetUnknown' -Message 'the target is no node of this cluster'
    }
    foreach ($volume in @(FailoverClusters\Get-ClusterSharedVolume -ErrorAction Stop)) {
        if ([string] $volume.Name -eq $Name) {
            if ([string] $volume.OwnerNode.Name -ne [string] $node.Name) {
                $null = FailoverClusters\Move-ClusterSharedVolume -InputObject $volume -Node ([string] $node.Name) -Wait 0 -ErrorAction Stop
            }
            return $null
        }
    }
    New-LbRefusal -Id 'LbVolumeNotFound' -Message 'no cluster shared volume has this name'
}

function Get-LbAutoBalancer {
    [int] (FailoverClusters\Get-Cluster -ErrorAction Stop).AutoBalancerMode
}

function Set-LbAutoBalancerValue {
    param([int] $Expected, [int] $Value, [long] $Fence)
    if (Test-LbFenced -Fence $Fence) {
        return 'fenced'
    }
    $now = Get-LbAutoBalancer
    if ($now -eq $Value) {
        return 'written'
    }
    if ($now -ne $Expected) {
        return 'differs'
    }
    $cluster = FailoverClusters\Get-Cluster -ErrorAction Stop
    $cluster.AutoBalancerMode = [uint32] $Value
    if ((Get-LbAutoBalancer) -eq $Value) {
        'written'
    } else {
        'differs'
    }
}

# ---- The functions that are called -------------------------------------------------------------------

function Get-LbVersion {
    [CmdletBinding()]
    param()
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        computer = [string] [System.Environment]::MachineName
        clustered = Test-LbClusterNode
    })
}

function Get-LbHost {
    [CmdletBinding()]
    param()
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        computer = [string] [System.Environment]::MachineName
        os = Read-LbOs
        host = Read-LbHostSettings
        migration = Read-LbMigrationService
        cpu = Read-LbCpu
        vps = Read-LbVps
        memory = Read-LbMemory
        vms = Read-LbVms
        switches = Read-LbSwitches
        nics = Read-LbNics
        lm_networks = Read-LbMigrationNetworks
        smb_limit = Read-LbSmbLimit
        jobs = Read-LbJobs
        atc = Read-LbAtc
        others = Read-LbOthers
    })
}

function Get-LbCluster {
    [CmdletBinding()]
    param()
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        computer = [string] [System.Environment]::MachineName
        cluster = Read-LbClusterSettings
        nodes = Read-LbNodes
        groups = Read-LbGroups
        affinity = Read-LbAffinity
        volumes = Read-LbVolumes
        networks = Read-LbNetworks
        vm_resource_type = Read-LbVmResourceType
        storage = Read-LbStorage
        control = Read-LbControl
    })
}

function Get-LbMigration {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [AllowEmptyCollection()]
        [guid[]] $VmId
    )
    $present = Get-LbPresent
    $jobs = @(Get-LbJobs)
    $blackouts = Get-LbBlackouts
    $node = Test-LbClusterNode
    $rows = @(foreach ($id in $VmId) {
        $key = $id.ToString()
        $job = Get-LbNewestJob -Jobs $jobs -Id $key
        New-LbMoveRow -VmId $id -Present ($present.ContainsKey($key)) -ClusterNode $node -Job $job -Blackout ($blackouts[$key])
    })
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        computer = [string] [System.Environment]::MachineName
        moves = [object[]] $rows
    })
}

function Start-LbMigration {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [guid] $VmId,

        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $Target,

        [Parameter(Mandatory = $true)]
        [bool] $Clustered,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    try {
        if (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        }
        $count = [int] (Get-LbPresent)[$VmId.ToString()]
        if ($count -eq 0) {
            $refusal = New-LbRefusal -Id 'LbVmNotFound' -Message ('no VM with the id {0} is on this host' -f $VmId)
        } elseif ($count -gt 1) {
            $refusal = New-LbRefusal -Id 'LbVmNotUnique' -Message ('{0} VMs on this host have the id {1}' -f $count, $VmId)
        } elseif ((Hyper-V\Get-VM -Id $VmId -ErrorAction Stop).IsClustered -ne $Clustered) {
            # The wrong way of moving would tear a VM from its role, or find no role.
            $refusal = New-LbRefusal -Id 'LbClusteredDiffers' -Message 'whether the VM is clustered has changed since it was planned'
        } elseif (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        } elseif ($Clustered) {
            $refusal = Start-LbClusterMove -VmId $VmId -Target $Target
        } else {
            $refusal = Start-LbHostMove -VmId $VmId -Target $Target
        }
        New-LbAct -Accepted ($null -eq $refusal) -Fenced $false -Fault $refusal
    } catch {
        New-LbAct -Accepted $false -Fenced $false -Fault (New-LbFault -Record $_)
    }
}

function Stop-LbMigration {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [guid] $VmId,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    try {
        if (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        }
        $refusal = $null
        # A VM that is not here any more has nothing left to cancel here.
        if ((Get-LbPresent).ContainsKey($VmId.ToString())) {
            if ((Hyper-V\Get-VM -Id $VmId -ErrorAction Stop).IsClustered) {
                $refusal = Stop-LbClusterMove -VmId $VmId
            } else {
                $refusal = Stop-LbHostMove -VmId $VmId
            }
        }
        New-LbAct -Accepted ($null -eq $refusal) -Fenced $false -Fault $refusal
    } catch {
        New-LbAct -Accepted $false -Fenced $false -Fault (New-LbFault -Record $_)
    }
}

function Set-LbTransport {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [ValidateRange(0, 2)]
        [int] $Expected,

        [Parameter(Mandatory = $true)]
        [ValidateRange(0, 2)]
        [int] $Value,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    $result = Set-LbTransportValue -Expected $Expected -Value $Value -Fence $Fence
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        result = [string] $result
        value = Get-LbTransport
    })
}

function Get-LbControl {
    [CmdletBinding()]
    param()
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        computer = [string] [System.Environment]::MachineName
        control = Read-LbControl
    })
}

function Set-LbControl {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [ValidateSet('lease', 'freeze')]
        [string] $Name,

        [Parameter(Mandatory = $true)]
        [AllowEmptyString()]
        [string] $Expected,

        [Parameter(Mandatory = $true)]
        [AllowEmptyString()]
        [string] $Value,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    $result = Set-LbControlValue -Name $Name -Expected $Expected -Value $Value -Fence $Fence
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        result = [string] $result
        value = [string] (Get-LbControlText -Name $Name)
    })
}

function Set-LbNode {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $Name,

        [Parameter(Mandatory = $true)]
        [ValidateSet('pause', 'resume')]
        [string] $State,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    try {
        if (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        }
        if (Test-LbClusterNode) {
            $refusal = Set-LbNodeState -Name $Name -State $State
        } else {
            $refusal = New-LbRefusal -Id 'LbNotClustered' -Message 'a host that stands alone cannot be paused'
        }
        New-LbAct -Accepted ($null -eq $refusal) -Fenced $false -Fault $refusal
    } catch {
        New-LbAct -Accepted $false -Fenced $false -Fault (New-LbFault -Record $_)
    }
}

function Move-LbGroup {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [guid] $GroupId,

        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $Target,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    try {
        if (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        }
        $refusal = Move-LbGroupTo -GroupId $GroupId -Target $Target
        New-LbAct -Accepted ($null -eq $refusal) -Fenced $false -Fault $refusal
    } catch {
        New-LbAct -Accepted $false -Fenced $false -Fault (New-LbFault -Record $_)
    }
}

function Move-LbVolume {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $Name,

        [Parameter(Mandatory = $true)]
        [ValidateNotNullOrEmpty()]
        [string] $Target,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    try {
        if (Test-LbFenced -Fence $Fence) {
            return New-LbAct -Accepted $false -Fenced $true
        }
        $refusal = Move-LbVolumeTo -Name $Name -Target $Target
        New-LbAct -Accepted ($null -eq $refusal) -Fenced $false -Fault $refusal
    } catch {
        New-LbAct -Accepted $false -Fenced $false -Fault (New-LbFault -Record $_)
    }
}

function Set-LbAutoBalancer {
    [CmdletBinding()]
    param(
        [Parameter(Mandatory = $true)]
        [ValidateRange(0, 2)]
        [int] $Expected,

        [Parameter(Mandatory = $true)]
        [ValidateRange(0, 2)]
        [int] $Value,

        [Parameter(Mandatory = $true)]
        [long] $Fence
    )
    $result = Set-LbAutoBalancerValue -Expected $Expected -Value $Value -Fence $Fence
    ConvertTo-LbJson -Answer ([pscustomobject] @{
        module = Get-LbModuleNumber
        result = [string] $result
        value = Get-LbAutoBalancer
    })
}
